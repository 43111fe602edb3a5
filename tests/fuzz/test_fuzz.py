"""Hostile inputs, for a while: nothing crashes, hangs or leaves a traceback.

The inputs are the same in every run; `python tools/fuzz.py` tries others for as long as you like.
"""

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz import kept, seeds
from tests.fuzz.inputs import inputs
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import MISBEHAVE, Finding, Worker

# How many inputs fit in two seconds on two cores; fewer where a session or a network is loaded.
EXAMPLES = dict.fromkeys(TARGETS, 40) | {
    **{"video": 30, "http": 20, "playlist": 12, "websocket": 8, "page": 20, "card": 12},
    **{"network": 8, "push": 4, "recognizer": 4, "session": 3, "checkpoint": 20},
}


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_inputs_are_handled(worker, target):
    outcomes = Counter()

    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=EXAMPLES[target],
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs()[target])
    def attempt(value):
        outcomes[worker.attempt(target, value)] += 1

    attempt()
    assert outcomes.total() >= EXAMPLES[target] / 2


@pytest.mark.parametrize("path", kept.kept(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_failed_once_is_handled(worker, path):
    assert worker.attempt(*kept.read(path))


@pytest.mark.parametrize("name", seeds.VIDEO_NAMES)
def test_the_videos_that_inputs_are_bred_from_can_be_read(worker, name):
    if not (content := seeds.video(name)):
        pytest.skip("this build of FFmpeg has no such encoder")
    assert worker.attempt("video", (name, content)) == "read"


@pytest.mark.parametrize(
    ("deed", "signature"),
    [
        ("crash", "the process ended"),
        ("hang", "hung for"),
        ("take memory", "took"),
        ("fail in a thread", "printed a traceback: ZeroDivisionError"),
        ("write elsewhere", "writes '"),
        ("ask elsewhere", "looks up 'elsewhere.invalid'"),
        ("raise", "KeyError at"),
    ],
)
def test_misbehaviour_is_noticed_and_the_next_input_is_tried_all_the_same(deed, signature):
    # 100 MB more than an idle process has.
    with Worker(limit_s=2.0 if deed == "hang" else 30.0, limit_mb=100) as worker:
        assert worker.attempt(MISBEHAVE, "nothing") == "done"
        with pytest.raises(Finding, match=signature):
            worker.attempt(MISBEHAVE, deed)
        assert worker.attempt(MISBEHAVE, "nothing") == "done"


def test_a_kept_input_is_read_as_it_was(tmp_path):
    value = (True, b"\xff\0", ["\udce9", {"a": None}], -1.5)
    path = kept.keep(tmp_path, "video", value)
    assert kept.kept(tmp_path) == [path]
    assert kept.read(path) == ("video", value)


# Some failed once, and are too large to be kept.
_LARGE = {
    "nested card": ("card", ("spotter", b"[" * 200_000)),
    "long number in a card": ("card", ("classifier", b"9" * 10_000)),
    "long cell of a truth": ("truth", b'"' + b"x" * 200_000),
    "long cell of a data set": ("data_set", (b"onset\n" + b"x" * 200_000, [b"a.mp4"])),
    "long cell of a release": ("release", (b'"' + b"x" * 200_000, b"")),
    "long header of an answer": ("http", [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000]),
}


@pytest.mark.parametrize("name", _LARGE)
def test_what_is_large_is_refused(worker, name):
    assert worker.attempt(*_LARGE[name]) == "refused"
