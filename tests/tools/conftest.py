"""A short demo clip, for the tests that need a whole one."""

from pathlib import Path

import pytest

from realtime_mer.demo import clip as demo


@pytest.fixture(scope="session")
def short_demo_clip(tmp_path_factory, landmark_model) -> tuple[Path, demo.HiddenEvent]:
    """The first six seconds of a demo clip, and the one micro-expression in them."""
    clip = tmp_path_factory.mktemp("demo") / "demo.avi"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "LENGTH_S", 6.0)
        hidden = demo.make_demo_clip(clip, 100, landmark_model=landmark_model)
    return clip, hidden.events[0]
