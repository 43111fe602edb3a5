"""The sound of annotated videos: kept, and in step with the pictures."""

from fractions import Fraction

import av
import numpy as np
import pytest

from realtime_mer.output.overlay import Overlay
from realtime_mer.output.sound import Sound
from realtime_mer.output.video_output import VideoOutput
from realtime_mer.results import Analysis, Session, Summary
from realtime_mer.source.capture import Capture
from realtime_mer.source.frame import Frame

FPS = 25


def pictures(length_s, start_s, codec, video):
    stream = video.add_stream(codec, rate=FPS)
    stream.width, stream.height = 64, 48
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    stream.codec_context.max_b_frames = 0
    for k in range(round(length_s * FPS)):
        image = np.full((48, 64, 3), 5 * k % 250, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=stream.pix_fmt)
        frame.pts, frame.time_base = k + round(start_s * FPS), Fraction(1, FPS)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def clicks(length_s, start_s, rate, codec, video, hole_s=(99.0, 0.0)):
    """Sound that clicks each half second after the first picture would come at 0."""
    stream = video.add_stream(codec, rate=rate)
    stream.layout = "mono"
    seconds = np.arange(round(length_s * rate)) / rate + start_s
    sound = np.where(seconds % 0.5 < 0.02, 0.8 * np.sin(2 * np.pi * 1000 * seconds), 0)
    for k in range(0, len(sound), 1024):
        block = sound[None, k : k + 1024].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        late_s = start_s + (hole_s[1] if k / rate >= hole_s[0] else 0)
        frame.sample_rate, frame.pts = rate, k + round(late_s * rate)
        frame.time_base = Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def make(path, video_codec="mpeg4", sound_codec="aac", **options):
    """A video; the pictures begin at `pictures_s`, the sound at `sound_s`."""
    with av.open(path, "w", options=options.pop("container", {})) as video:
        video.metadata["location"] = "+48.1-011.5/"
        packets = [
            *pictures(
                options.pop("length_s", 2.0), options.pop("pictures_s", 0.0), video_codec, video
            ),
            *clicks(
                options.pop("sound_length_s", 2.0),
                options.pop("sound_s", 0.0),
                options.pop("rate", 48000),
                sound_codec,
                video,
                **options,
            ),
        ]
        for packet in sorted(packets, key=lambda p: (p.dts or 0) * p.time_base):
            video.mux(packet)
    return path


def annotated(source, target, frames=None, after_opening=lambda: None, **session):
    """Runs on a source, or on its first frames, without analysis; returns the notes."""
    notes = []
    output = VideoOutput(target, Overlay([]), sound=source, note=notes.append)
    with Capture(source) as capture:
        fields = {"live": False, "fps": capture.fps} | session
        output.begin(
            Session(
                "s", size=capture.size, frame_count=0, model="", provider="", labels=(), **fields
            )
        )
        after_opening()
        reason = "end of source"
        for frame in capture:
            output.update(Analysis(frame))
            if frames is not None and frame.index + 1 == frames:
                reason = "stopped by user"
                break
    output.end(Summary(reason, 1, 1, 0, 0, 1.0, 1.0, 0))
    return notes


def heard(path):
    """The codec, and the times of clicks and of the end, in seconds after the first picture."""
    with av.open(path) as video:
        first = next(video.decode(video=0))
        zero_s = float(first.pts * first.time_base)
    times, samples = [], []
    with av.open(path) as video:
        if not video.streams.audio:
            return None, [], 0.0
        stream = video.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", layout="mono")
        for decoded in video.decode(stream):
            for frame in resampler.resample(decoded):
                block = frame.to_ndarray()[0]
                start_s = float(frame.pts * frame.time_base) - zero_s
                times.append(start_s + np.arange(len(block)) / frame.sample_rate)
                samples.append(block)
    times, samples = np.concatenate(times), np.concatenate(samples)
    loud = times[np.abs(samples) > 0.3]
    starts = [t for k, t in enumerate(loud) if k == 0 or t - loud[k - 1] > 0.1]
    return stream.codec_context.codec.canonical_name, starts, times[-1]


@pytest.mark.parametrize(
    ("source", "target", "codec", "options"),
    [
        ("in.mp4", "out.mp4", "aac", {}),
        ("in.mp4", "out.mov", "aac", {}),
        ("in.mp4", "out.mkv", "aac", {}),
        # Edit lists: sound that begins before the pictures, and after them.
        ("in.mp4", "out.mp4", "aac", {"pictures_s": 0.72}),
        ("in.mp4", "out.mkv", "aac", {"sound_s": 0.72}),
        # A container whose times do not begin at 0.
        ("in.ts", "out.mp4", "aac", {"pictures_s": 0.32, "video_codec": "mpeg2video"}),
        # Copied where the container takes it, else AAC.
        ("in.mkv", "out.mkv", "flac", {"sound_codec": "flac"}),
        ("in.avi", "out.mp4", "aac", {"sound_codec": "pcm_s16le", "video_codec": "mjpeg"}),
        ("in.mov", "out.mp4", "aac", {"sound_codec": "pcm_alaw", "rate": 8000, "sound_s": 0.2}),
        ("in.mov", "out.mkv", "aac", {"sound_codec": "pcm_s16be", "pictures_s": 0.72}),
        # A hole in the sound: 1 s of it, then 2 s of nothing, then 1 s of it.
        ("in.mkv", "out.mp4", "aac", {"sound_codec": "pcm_s16le", "hole_s": (1.0, 2.0)}),
        ("in.mp4", "out.mp4", "aac", {"hole_s": (1.0, 2.0)}),
    ],
)
def test_sound_is_kept_in_step(tmp_path, source, target, codec, options):
    make(tmp_path / source, **options)
    assert annotated(tmp_path / source, tmp_path / target) == []
    _, expected, end_s = heard(tmp_path / source)
    found, times, found_end_s = heard(tmp_path / target)
    assert found == codec
    # A click just as the pictures begin may lack its first 20 ms.
    expected, times = ([t for t in ts if t > 0.1] for ts in (expected, times))
    assert len(expected) >= 2
    assert times == pytest.approx(expected, abs=0.005)
    assert found_end_s == pytest.approx(end_s, abs=0.15)


def test_what_else_is_in_the_source_stays_behind(tmp_path):
    make(tmp_path / "in.mp4", container={"movflags": "use_metadata_tags"})
    with av.open(tmp_path / "in.mp4") as video:
        assert "location" in video.metadata
    annotated(tmp_path / "in.mp4", tmp_path / "out.mp4")
    with av.open(tmp_path / "out.mp4") as video:
        assert "location" not in video.metadata
        assert [stream.type for stream in video.streams] == ["video", "audio"]
    assert b"+48.1" not in (tmp_path / "out.mp4").read_bytes()


def test_sound_that_is_longer_than_the_pictures_is_kept(tmp_path):
    make(tmp_path / "in.mp4", sound_length_s=4.0)
    annotated(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert heard(tmp_path / "out.mp4")[2] == pytest.approx(4.0, abs=0.05)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_an_early_end_ends_the_sound(tmp_path, codec):
    make(tmp_path / "in.mkv", sound_codec=codec)
    annotated(tmp_path / "in.mkv", tmp_path / "out.mp4", frames=20)
    _, times, end_s = heard(tmp_path / "out.mp4")
    assert times[-1] == pytest.approx(0.5, abs=0.02)
    assert end_s == pytest.approx(0.8, abs=0.05)


def test_sound_ends_where_the_times_of_the_source_jump(tmp_path):
    make(tmp_path / "one.ts", "mpeg2video", length_s=1.6, sound_length_s=1.6)
    twice = (tmp_path / "one.ts").read_bytes() * 2
    (tmp_path / "in.ts").write_bytes(twice)
    (note,) = annotated(tmp_path / "in.ts", tmp_path / "out.mp4")
    assert "the sound of" in note
    assert "where the times of the source jump" in note
    assert 1.3 < heard(tmp_path / "out.mp4")[2] < 1.8
    with av.open(tmp_path / "out.mp4") as video:
        assert sum(packet.size > 0 for packet in video.demux(video=0)) >= 78


def test_a_source_that_is_deleted_meanwhile_keeps_its_sound(tmp_path):
    source = make(tmp_path / "in.mp4")
    annotated(source, tmp_path / "out.mp4", after_opening=source.unlink)
    assert heard(tmp_path / "out.mp4")[0] == "aac"


def test_live_sources_have_no_sound(tmp_path):
    make(tmp_path / "in.mp4")
    annotated(tmp_path / "in.mp4", tmp_path / "out.mp4", live=True)
    assert heard(tmp_path / "out.mp4")[0] is None


@pytest.mark.parametrize("error", [av.error.InvalidDataError(1, "bad"), ValueError("odd layout")])
def test_sound_that_fails_leaves_the_pictures_and_a_note(tmp_path, monkeypatch, error):
    def fail(self, track):
        raise error
        yield

    monkeypatch.setattr(Sound, "_copied", fail)
    make(tmp_path / "in.mp4")
    (note,) = annotated(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert "out.mp4 has no sound: " in note
    with av.open(tmp_path / "out.mp4") as video:
        assert sum(packet.size > 0 for packet in video.demux(video=0)) == 50
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_what_is_no_video_has_no_sound(tmp_path):
    output = VideoOutput(tmp_path / "out.mp4", Overlay([]), sound=tmp_path)
    output.begin(Session("s", False, (64, 48), 25.0, 0, "", "", ()))
    output.update(Analysis(Frame(0, 0.0, np.zeros((48, 64, 3), np.uint8), 0.0, 0.0)))
    output.end(Summary("end of source", 1, 1, 0, 0, 1.0, 1.0, 0))
    assert heard(tmp_path / "out.mp4")[0] is None
