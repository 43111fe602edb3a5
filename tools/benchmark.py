"""What the chain costs a frame, beside MediaPipe's face landmarker alone.

    python tools/benchmark.py VIDEO [--json] [--frames N] [--providers P]

The frames are decoded into memory first. Then the bare landmarker (as MediaPipe sets it up: video
mode, one face) and the whole chain take turns on blocks of the same frames in the same process, so
that whatever else the machine does hits both; while one works, the other is idle. The chain's
stages work at the same time: its clock runs from the moment when it may take the first frame of a
block until the analysis of the last one has come out. Times are means in milliseconds a frame:

    tracker_ms   MediaPipe's landmarker alone, BGR to RGB included
    chain_ms     frames to analyses: tracking, registration, flow, spotting, classification
    ratio        chain_ms / tracker_ms
    fps          frames a second of the chain
    tracker_cpu_ms, chain_cpu_ms    processor time of all threads
    flow_ms      regional motion, part of chain_ms
    spot_ms      the spotter, part of chain_ms
    spotting_alone_ms   regional motion and spotter of a frame on one core, nothing beside; median
    classify_ms  a window: flow pair and network; null where no face was seen
    network_ms   its network alone, on the --providers
    draw_ms      the overlay's picture, not part of chain_ms
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions, vision
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.native import silenced_stderr
from realtime_mer.face.paced_tracker import TRACK_FPS
from realtime_mer.face.registration import CanonicalFace, Registration
from realtime_mer.face.ring import RingBuffer
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.output.overlay import Overlay
from realtime_mer.recognition.classifier import PROVIDERS, Classifier
from realtime_mer.recognition.face_pair import FacePair
from realtime_mer.results import Analysis, Interval
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.source.capture import Capture
from realtime_mer.source.frame import Frame
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.source.reader import Grab
from realtime_mer.spotting.motion import RegionalMotion
from realtime_mer.spotting.spotter import Spotter, SpotterModel

FRAMES = 300
# Decoded frames are kept in memory: 300 of 640 x 480 are 276 MB.
_MOST_BYTES = 600_000_000
_LEAST_FRAMES = 60
# Both see this many frames before the clock runs: allocation, detection, and the spotter's first
# second, in which it does not ask its network.
_WARM_UP = 30
_RING = 30
# Long enough that filling and draining the stages, once a block, hardly counts.
_BLOCK = 60
_WINDOWS = 8
# Frames whose spotting is measured alone.
_ALONE = 240


class MemoryReader:
    """Frames that lie in memory, as a source of `Capture`; it gives those that it is told to.

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
        """Lets `count` more frames be taken."""
        if count:
            self._allowed.release(count)

    def stop(self) -> None:
        """Ends the source, also for one who waits for a frame."""
        self._stopped = True
        self._allowed.release()

    def open(self) -> None:
        pass

    def read(self) -> Grab | None:
        self._allowed.acquire()
        frame = None if self._stopped else next(self._frames, None)
        return frame and Grab(frame.image, frame.time_s, time.monotonic())

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
    """MediaPipe's landmarker as its own examples use it, and nothing else."""

    def __init__(self, model: Path) -> None:
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.VIDEO,
        )
        self._last_ms = -1
        with silenced_stderr():
            self._landmarker = vision.FaceLandmarker.create_from_options(options)

    def __call__(self, frame: Frame) -> None:
        self._last_ms = max(self._last_ms + 1, round(frame.time_s * 1000))
        rgb = cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB)
        image = Image(image_format=ImageFormat.SRGB, data=rgb)
        self._landmarker.detect_for_video(image, self._last_ms)

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


@dataclass(frozen=True, slots=True)
class SeenFace:
    """A frame's first face, as what comes behind the registration sees it."""

    time_s: float
    face: CanonicalFace
    blink: float
    jaw_open: float


def seen_faces(frames: list[Frame], model: Path) -> list[SeenFace]:
    """The first face of each frame that shows one."""
    registration, seen = Registration(), []
    with FaceTracker(model) as tracker:
        for frame in frames:
            for first in tracker.track(frame)[:1]:
                face = registration(frame.image, first.landmarks, frame.time_s)
                seen.append(SeenFace(frame.time_s, face, first.blink, first.jaw_open))
    return seen


def spotting_ms(seen: list[SeenFace], spotter: Spotter) -> float | None:
    """Median time of a face's regional motion and spotting on one core; None without a face."""
    motion, spent = RegionalMotion(), []
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for one in seen:
            started = time.perf_counter()
            spotter(motion(one.face, one.time_s, one.blink, one.jaw_open))
            spent.append(time.perf_counter() - started)
    finally:
        cv2.setNumThreads(threads)
    return 1000 * float(np.median(spent[_WARM_UP:])) if len(spent) > _WARM_UP else None


def classify_ms(
    seen: list[SeenFace], classifier: Classifier
) -> tuple[float, float] | tuple[None, None]:
    """Mean time of a window from the ring to its probabilities, and of its network alone.

    None without a face.
    """
    ring = RingBuffer(_RING)
    seen = seen[:_RING]
    for one in seen:
        ring.append(one.time_s, one.face)
    times = [one.time_s for one in seen]
    if len(times) < 3:
        return None, None
    pair, spent, network = FacePair(), [], []
    for i in range(_WINDOWS + 1):
        start = i % max(1, len(times) - 9)
        window = times[start : start + 9]
        started = time.perf_counter()
        images = pair(ring, Interval(window[0], window[len(window) // 2], window[-1])).images
        seen_s = time.perf_counter()
        classifier.classify(images[None])
        network.append(time.perf_counter() - seen_s)
        spent.append(time.perf_counter() - started)
    return 1000 * float(np.mean(spent[1:])), 1000 * float(np.mean(network[1:]))


def _spent_ms(recognizer: Recognizer) -> dict[str, tuple[int, float]]:
    """How often each stage has run, and how long in all, milliseconds."""
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
    """Runs the benchmark on frames in memory; returns the object that `--json` prints.

    Raises:
        InputError: Weights or the landmark model cannot be used.
    """
    model = find_landmark_model()
    # At a rate where every frame is tracked: the landmarker alone sees every frame too.
    reader = MemoryReader(name, frames, min(fps, TRACK_FPS))
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
            found: list[Analysis] = []
            with chain_clock.on(len(block)):
                reader.allow(len(block) - (block[0] is frames[0]))
                for _ in block:
                    found.append(next(analyses))
            with draw_clock.on(len(block)):
                for analysis in found:
                    overlay.update(analysis)
                    overlay.picture()
            with_face += sum(bool(analysis.faces) for analysis in found)

        # Who comes first changes from block to block: neither always finds the other's caches.
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
    # With nothing beside them.
    seen = seen_faces(frames[: _WARM_UP + _ALONE], model)
    alone_ms = spotting_ms(seen, Spotter(SpotterModel(spotter)))
    classifier = Classifier(weights, providers)
    window_ms, network_ms = classify_ms(seen, classifier)

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 3)

    def stage(key: str) -> float | None:
        count, spent_ms = np.subtract(after.get(key, (0, 0)), before.get(key, (0, 0)))
        return rounded(float(spent_ms / count)) if count else None

    return {
        "video": name,
        "size": list(frames[0].image.shape[1::-1]),
        "frames": chain_clock.frames,
        "with_face": round(with_face / len(frames), 3),
        "tracker_ms": round(tracker_ms, 3),
        "chain_ms": round(chain_ms, 3),
        "ratio": round(chain_ms / tracker_ms, 4),
        "fps": round(1000 / chain_ms, 2),
        "tracker_cpu_ms": round(bare_clock.cpu_ms, 3),
        "chain_cpu_ms": round(chain_clock.cpu_ms, 3),
        "flow_ms": stage("flow"),
        "spot_ms": stage("spot"),
        "spotting_alone_ms": rounded(alone_ms),
        "classify_ms": rounded(window_ms),
        "network_ms": rounded(network_ms),
        "provider": classifier.provider,
        "draw_ms": round(draw_clock.wall_ms, 3),
    }


def table(result: dict[str, Any]) -> Table:
    """The figures for people."""
    wide, high = result["size"]
    out = Table(title=f"{result['video']}, {wide} x {high}, {result['frames']} frames")
    out.add_column("what")
    out.add_column("figure", justify="right")
    rows = {
        "landmarker alone": ("tracker_ms", "ms a frame"),
        "whole chain": ("chain_ms", "ms a frame"),
        "landmarker alone, processor": ("tracker_cpu_ms", "ms a frame"),
        "whole chain, processor": ("chain_cpu_ms", "ms a frame"),
        "chain / landmarker": ("ratio", ""),
        "chain": ("fps", "frames a second"),
        "regional motion": ("flow_ms", "ms a frame"),
        "spotter": ("spot_ms", "ms a frame"),
        "both alone, on one core": ("spotting_alone_ms", "ms a frame"),
        "classifier": ("classify_ms", "ms a window"),
        f"its network, on {result['provider']}": ("network_ms", "ms a window"),
        "overlay": ("draw_ms", "ms a picture"),
    }
    for what, (key, unit) in rows.items():
        value = result[key]
        out.add_row(what, "no face seen" if value is None else f"{value:.2f} {unit}".rstrip())
    return out


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < _LEAST_FRAMES:
        raise argparse.ArgumentTypeError(f"{text!r}: give {_LEAST_FRAMES} frames or more")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", help="video file or folder of frames")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    parser.add_argument(
        "--frames", type=_count, default=FRAMES, metavar="N", help=f"at most (default {FRAMES})"
    )
    parser.add_argument("--providers", choices=PROVIDERS, default="auto", help="as run.py has it")
    options = parser.parse_args(arguments)
    quiet_opencv()
    try:
        frames, fps = read_frames(options.video, options.frames)
        result = measure(Path(options.video).name, frames, fps, providers=options.providers)
    except InputError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(result))
    else:
        Console().print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
