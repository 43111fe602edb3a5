"""What the chain costs a frame, beside MediaPipe's face landmarker alone.

    python tools/benchmark.py VIDEO [--json] [--frames N] [--providers P] [--runs N]
                              [--throughput] [--record [FILE]]

The frames are decoded into memory first. Then the bare landmarker (as MediaPipe sets it up: video
mode, one face) and the whole chain take turns on blocks of the same frames in the same process, so
that other load on the machine slows both; while one works, the other is idle. The stages of the
chain work at the same time: its clock runs from the moment when it may take the first frame of a
block until the analysis of the last one has come out. Times are means in milliseconds a frame:

    tracker_ms   MediaPipe's landmarker alone, BGR to RGB included
    chain_ms     frames to analyses: tracking, registration, flow, spotting, classification
    ratio        chain_ms / tracker_ms
    fps          frames a second of the chain
    tracker_cpu_ms, chain_cpu_ms    processor time of all threads
    tracker_cpu_s, chain_cpu_s      the same in seconds for a minute of the video
    flow_ms      regional motion, part of chain_ms
    spot_ms      the spotter, part of chain_ms
    spotting_alone_ms   regional motion and spotter on one core while nothing else works; median
    classify_ms  a window: flow pair and network; null if no face was seen
    network_ms   its network alone, on the --providers
    naming_ratio classify_ms / tracker_ms
    track_share, register_share, flow_share, spot_share    of the time of a frame, each alone
    draw_ms      the overlay's picture, not part of chain_ms

Each figure is the median of the --runs; "spread" has the least and the most as well.

--throughput has the archive's own workers analyse the whole VIDEO, with decoding, as many at the
same time as there are cores. Their start counts, so give a video of several minutes:

    archive_hours    hours of video that each analyses an hour
    archive_start_s  until a worker has analysed something
    archive_cpu_s    processor time of a minute of video, start included
    profile          of that minute, by station; from a run that works alone

--record adds a row to docs/performance.md, which says how to read it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime_mer.analysis.analyser import Analyser
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.mediapipe_tasks import BaseOptions, Image, ImageFormat, vision
from realtime_mer.face.native import silenced_stderr
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.output.overlay import Overlay
from realtime_mer.recognition.classifier import PROVIDERS
from realtime_mer.results import Analysis, Interval
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.source.capture import Capture
from realtime_mer.source.frame import Frame
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.source.reader import Grab
from realtime_mer.stats import Stats
from tools import performance_table
from tools.archive_speed import archive_profile, archive_speed
from tools.command import command_parser, exit_status, number_type, print_figures, spread
from tools.station_times import STATIONS

# Chosen by judgement: ten seconds at 30 fps.
FRAMES = 300
# Runs, if a row is recorded. Chosen by judgement: the least and the most of fewer say little.
_RECORDED_RUNS = 5
# Decoded frames stay in memory: 300 of 640 x 480 are 276 MB.
_MOST_BYTES = 600_000_000
_LEAST_FRAMES = 60
# Frames before the clock runs: allocation, detection, and the spotter's first second, in which it
# does not call its network.
_WARM_UP = 30
# Long enough that filling and draining the stages, once a block, hardly counts.
_BLOCK = 60
# Windows to classify alone: how many, of how many frames, from how long before the last frame.
_WINDOWS = 8
_WINDOW_FRAMES = 9
_RECENT_S = 1.0
# Frames whose spotting is measured alone.
_ALONE = 240
# Figures that are not known unless a face is seen.
_OF_FACES = {
    *("flow_ms", "spot_ms", "spotting_alone_ms", "classify_ms", "network_ms", "naming_ratio"),
}


class MemoryReader:
    """Frames in memory, as a source of `Capture`; it hands out as many as `allow` permits.

    The first one may be taken at once, so that a capture can open.
    """

    live = False

    def __init__(self, name: str, frames: list[Frame], fps: float) -> None:
        self.name, self.fps, self.frame_count = name, fps, len(frames)
        self.notes: list[str] = []
        self._frames = iter(frames)
        self._allowed = threading.Semaphore(1)
        self._stopped = False

    def allow(self, count: int) -> None:
        """Permits `count` more frames to be taken."""
        if count:
            self._allowed.release(count)

    def stop(self) -> None:
        """Ends the source, even for a reader that waits for a frame."""
        self._stopped = True
        self._allowed.release()

    def open(self) -> None:
        pass

    def read(self) -> Grab | None:
        self._allowed.acquire()
        frame = None if self._stopped else next(self._frames, None)
        return None if frame is None else Grab(frame.image, frame.time_s, time.monotonic())

    def empty(self) -> InputError:
        return InputError(f"{self.name} holds no frame: give another video")

    def close(self) -> None:
        pass


def read_frames(source: str, most: int) -> tuple[list[Frame], float]:
    """The first frames of a video, and its declared rate.

    Raises:
        InputError: The video cannot be read, is live, or is too short to measure with.
    """
    frames: list[Frame] = []
    held = 0
    capture = Capture(source)
    if capture.live:
        raise InputError(f"{capture.source} is live: give a video file or a folder of frames")
    with capture:
        for frame in capture:
            held += frame.image.nbytes
            if len(frames) >= most or (held > _MOST_BYTES and len(frames) >= _LEAST_FRAMES):
                break
            frames.append(frame)
    if len(frames) < _LEAST_FRAMES:
        raise InputError(
            f"{capture.source} has {len(frames)} frames, too few to measure with: "
            f"give a video of {_LEAST_FRAMES} or more"
        )
    return frames, capture.fps


class BareLandmarker:
    """MediaPipe's landmarker as its own examples use it, and no more."""

    def __init__(self, model: Path) -> None:
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.VIDEO,
        )
        self._last_ms = -1
        with silenced_stderr():
            self._landmarker = vision.FaceLandmarker.create_from_options(options)

    def __call__(self, frame: Frame) -> vision.FaceLandmarkerResult:
        """What MediaPipe gives for the next frame."""
        self._last_ms = max(self._last_ms + 1, round(frame.time_s * 1000))
        rgb = cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB)
        image = Image(image_format=ImageFormat.SRGB, data=rgb)
        return self._landmarker.detect_for_video(image, self._last_ms)

    def close(self) -> None:
        with silenced_stderr():
            self._landmarker.close()


def _blocks(frames: list[Frame]) -> Iterator[tuple[list[Frame], bool]]:
    """Blocks of frames, and whether they count."""
    yield frames[:_WARM_UP], False
    for start in range(_WARM_UP, len(frames), _BLOCK):
        yield frames[start : start + _BLOCK], True


class _Clock:
    """Wall clock and processor time of this process, a frame."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.frames = 0
        self._wall_s = self._cpu_s = 0.0

    @contextlib.contextmanager
    def on(self, frames: int) -> Iterator[None]:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        yield
        self._wall_s += time.perf_counter() - wall_s
        self._cpu_s += time.process_time() - cpu_s
        self.frames += frames

    @property
    def wall_ms(self) -> float:
        return 1000 * self._wall_s / self.frames

    @property
    def cpu_ms(self) -> float:
        return 1000 * self._cpu_s / self.frames


class Durations(Stats):
    """Also keeps how long each pass through a stage took, seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: defaultdict[str, list[float]] = defaultdict(list)

    def record(self, name: str, seconds: float) -> None:
        super().record(name, seconds)
        self.passes[name].append(seconds)


def seen_faces(frames: list[Frame], analyser: Analyser) -> list[tuple[int, float]]:
    """Follows the faces of the frames; the number of the first face of each, and its time."""
    # All are tracked first: the landmarker's threads and memory would slow what is measured next.
    return [
        (step.state.face, tracked.frame.time_s)
        for tracked in [analyser.track(frame) for frame in frames]
        for step in analyser.follow(tracked)
    ]


def spotting_ms(durations: Durations) -> float | None:
    """Median time of a face's regional motion and spotting; None if hardly a face was seen."""
    flow, spot = (durations.passes[stage][_WARM_UP:] for stage in ("flow", "spot"))
    return 1000 * float(np.median(np.add(flow, spot))) if flow else None


def shares(durations: Durations) -> dict[str, float]:
    """Of each station, its part of the time in which the frames were tracked and followed."""
    stages = ("track", "register", "flow", "spot")
    spent = {name: sum(durations.passes[name][_WARM_UP:]) for name in stages}
    return {f"{name}_share": seconds / sum(spent.values()) for name, seconds in spent.items()}


def classify_ms(
    seen: list[tuple[int, float]], analyser: Analyser
) -> tuple[float, float] | tuple[None, None]:
    """Mean time of a window from the ring to its probabilities, and of its network alone.

    None without a face.

    Args:
        seen: What `seen_faces` returned.
        analyser: The one that has just followed them.
    """
    recent = [(face, time_s) for face, time_s in seen if time_s >= seen[-1][1] - _RECENT_S]
    if len(recent) < 3:
        return None, None
    face, times = recent[-1][0], [time_s for _, time_s in recent]
    whole, network = [], []
    for i in range(_WINDOWS + 1):
        start = i % max(1, len(times) - _WINDOW_FRAMES)
        window = times[start : start + _WINDOW_FRAMES]
        started_at = time.perf_counter()
        interval = Interval(window[0], window[len(window) // 2], window[-1])
        images = analyser.pair(face, interval).images
        paired_at = time.perf_counter()
        analyser.classifier.classify(images[None])
        ended_at = time.perf_counter()
        whole.append(ended_at - started_at)
        network.append(ended_at - paired_at)
    # The first one allocates.
    return 1000 * float(np.mean(whole[1:])), 1000 * float(np.mean(network[1:]))


def _spent_ms(recognizer: Recognizer) -> dict[str, tuple[int, float]]:
    """How often each stage has run, and how many milliseconds in all."""
    stages = recognizer.stats.as_dict(0, 0)["stages_ms"]
    return {name: (s["count"], s["count"] * s["mean"]) for name, s in stages.items()}


def measure(
    name: str,
    frames: list[Frame],
    fps: float,
    *,
    weights: Path = CLASSIFIER,
    spotter: Path = SPOTTER,
    providers: str = "auto",
) -> dict[str, Any]:
    """Runs the benchmark once on frames in memory; returns the object that `--json` prints.

    Args:
        name: Of the video.
        frames: Its frames, `_LEAST_FRAMES` or more.
        fps: Its declared rate.
        weights: The classifier.
        spotter: The spotter.
        providers: Where the classifier runs.

    Raises:
        InputError: Weights or the landmark model cannot be used.
    """
    model = find_landmark_model()
    reader = MemoryReader(name, frames, fps)
    bare_clock, chain_clock, draw_clock = _Clock(), _Clock(), _Clock()
    with_face = 0
    overlay = Overlay()
    with contextlib.ExitStack() as stack:
        recognizer = stack.enter_context(
            Recognizer(reader, weights=weights, spotter=spotter, providers=providers)
        )
        stack.callback(reader.stop)
        bare = stack.enter_context(contextlib.closing(BareLandmarker(model)))
        overlay.begin(recognizer.session)
        analyses = recognizer.analyses()

        def run_bare(block: list[Frame]) -> None:
            with bare_clock.on(len(block)):
                for frame in block:
                    bare(frame)

        def run_chain(block: list[Frame]) -> None:
            nonlocal with_face
            analysed: list[Analysis] = []
            with chain_clock.on(len(block)):
                reader.allow(len(block) - (block[0] is frames[0]))
                for _ in block:
                    analysed.append(next(analyses))
            with draw_clock.on(len(block)):
                for analysis in analysed:
                    overlay.update(analysis)
                    overlay.picture()
            with_face += sum(bool(analysis.faces) for analysis in analysed)

        # The order changes from block to block, so that neither always finds the caches filled by
        # the other.
        turns, before = [run_bare, run_chain], {}
        for block, counts in _blocks(frames):
            for run in turns:
                run(block)
            turns.reverse()
            if not counts:
                before = _spent_ms(recognizer)
                for clock in (bare_clock, chain_clock, draw_clock):
                    clock.reset()
        after = _spent_ms(recognizer)
    tracker_ms, chain_ms = bare_clock.wall_ms, chain_clock.wall_ms
    # Seconds for a minute of video, of milliseconds for a frame.
    a_minute = 60 * fps / 1000
    durations = Durations()
    with Analyser(
        weights=weights, spotter=spotter, providers=providers, stats=durations
    ) as analyser:
        seen = seen_faces(frames[: _WARM_UP + _ALONE], analyser)
        alone_ms = spotting_ms(durations)
        window_ms, network_ms = classify_ms(seen, analyser)

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 3)

    def stage(key: str) -> float | None:
        count, spent_ms = np.subtract(after.get(key, (0, 0)), before.get(key, (0, 0)))
        return rounded(float(spent_ms / count)) if count else None

    return {
        "video": name,
        "size": list(frames[0].image.shape[1::-1]),
        "source_fps": fps,
        "frames": chain_clock.frames,
        "with_face": round(with_face / len(frames), 3),
        "tracker_ms": round(tracker_ms, 3),
        "chain_ms": round(chain_ms, 3),
        "ratio": round(chain_ms / tracker_ms, 4),
        "fps": round(1000 / chain_ms, 2),
        "tracker_cpu_ms": round(bare_clock.cpu_ms, 3),
        "chain_cpu_ms": round(chain_clock.cpu_ms, 3),
        "tracker_cpu_s": round(bare_clock.cpu_ms * a_minute, 2),
        "chain_cpu_s": round(chain_clock.cpu_ms * a_minute, 2),
        "flow_ms": stage("flow"),
        "spot_ms": stage("spot"),
        "spotting_alone_ms": rounded(alone_ms),
        "classify_ms": rounded(window_ms),
        "network_ms": rounded(network_ms),
        "naming_ratio": rounded(None if window_ms is None else window_ms / tracker_ms),
        **{name: rounded(share) for name, share in shares(durations).items()},
        "provider": analyser.classifier.provider,
        "draw_ms": round(draw_clock.wall_ms, 3),
    }


def together(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Several runs in one object: the medians, and under "spread" the least and the most as well.

    What only some of them have, such as the time of a window in which a face was seen, is null.
    """
    first = results[0]
    spreads = {
        key: spread([result[key] for result in results], 4)
        for key, value in first.items()
        if isinstance(value, float) and all(result[key] is not None for result in results)
    }
    medians = {key: values["median"] for key, values in spreads.items()}
    missing = {key: None for result in results for key, value in result.items() if value is None}
    return first | medians | missing | {"runs": len(results), "spread": spreads}


def _shown(result: dict[str, Any], key: str, unit: str) -> str:
    value = result[key]
    if value is None:
        return "no face seen" if key in _OF_FACES else "not known"
    text = f"{value:.2f}"
    if result["runs"] > 1 and (around := result["spread"].get(key)):
        text += f" ({around['min']:.2f} to {around['max']:.2f})"
    return f"{text} {unit}".rstrip()


def rows_of(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures for people."""
    figures = {
        "landmarker alone": ("tracker_ms", "ms a frame"),
        "whole chain": ("chain_ms", "ms a frame"),
        "landmarker alone, processor": ("tracker_cpu_ms", "ms a frame"),
        "whole chain, processor": ("chain_cpu_ms", "ms a frame"),
        "landmarker alone, processor, a minute": ("tracker_cpu_s", "s"),
        "whole chain, processor, a minute": ("chain_cpu_s", "s"),
        "chain / landmarker": ("ratio", ""),
        "chain": ("fps", "frames a second"),
        "regional motion": ("flow_ms", "ms a frame"),
        "spotter": ("spot_ms", "ms a frame"),
        "both alone, on one core": ("spotting_alone_ms", "ms a frame"),
        "classifier": ("classify_ms", "ms a window"),
        f"its network, on {result['provider']}": ("network_ms", "ms a window"),
        "naming a window / landmarker": ("naming_ratio", ""),
        "overlay": ("draw_ms", "ms a picture"),
        "archive, start of a worker": ("archive_start_s", "s"),
        "archive, processor, a minute": ("archive_cpu_s", "s"),
        "archive": ("archive_hours", "hours of video an hour and core"),
    }
    for what, (key, unit) in figures.items():
        if key in result:
            yield what, _shown(result, key, unit)
    profile = result.get("profile", {})
    for station in STATIONS:
        if station in profile:
            share = 100 * profile[station] / sum(profile.values())
            yield f"  {station}", f"{profile[station]:.2f} s a minute, {share:.0f} %"


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("video", help="video file or folder of frames")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    count = number_type(int, lambda n: n >= _LEAST_FRAMES, f"{_LEAST_FRAMES} frames or more")
    parser.add_argument(
        "--frames", type=count, default=FRAMES, metavar="N", help=f"at most (default {FRAMES})"
    )
    parser.add_argument(
        "--providers", choices=PROVIDERS, default="auto", help="where the classifier runs"
    )
    runs = number_type(int, lambda n: 1 <= n <= 100, "a number from 1 to 100")
    parser.add_argument(
        "--runs",
        type=runs,
        metavar="N",
        help=f"how often to measure (default 1; {_RECORDED_RUNS} with --record)",
    )
    parser.add_argument("--throughput", action="store_true", help="measure the archive as well")
    parser.add_argument(
        "--record",
        type=Path,
        nargs="?",
        const=performance_table.TABLE,
        metavar="FILE",
        help="add a row to docs/performance.md, or to another file like it",
    )
    options = parser.parse_args(arguments)
    quiet_opencv()

    def run() -> None:
        count = options.runs or (_RECORDED_RUNS if options.record else 1)
        # First, so that a checkout that is changed meanwhile is not taken for what was measured.
        revision = performance_table.revision() if options.record else None
        frames, fps = read_frames(options.video, options.frames)
        name = Path(options.video).name
        results = [measure(name, frames, fps, providers=options.providers) for _ in range(count)]
        del frames  # the archive's workers need the memory
        if options.throughput:
            results = [result | archive_speed(options.video) for result in results]
        result = together(results)
        if options.throughput:
            result["profile"] = archive_profile(options.video)
        wide, high = result["size"]
        title = f"{result['video']}, {wide} x {high}, {result['frames']} frames"
        print_figures(result, options.json, title, rows_of(result))
        if revision is not None:
            performance_table.append(performance_table.row(result, revision), options.record)

    return exit_status(parser.prog, run)


if __name__ == "__main__":
    sys.exit(main())
