"""The cache lies where the system wants such files."""

from pathlib import Path

import pytest

from realtime_mer.cache import default_cache
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model


def test_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "realtime_mer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_cache() == tmp_path / "local" / "realtime_mer"
    monkeypatch.delenv("LOCALAPPDATA")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache() == tmp_path / "home" / ".cache" / "realtime_mer"


def test_user_without_a_home_has_no_cache(monkeypatch):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)

    def no_home() -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert default_cache() is None
    # The packaged model is found all the same.
    assert find_landmark_model(download=False).is_file()
    with pytest.raises(InputError, match="no home folder"):
        find_landmark_model(package="absent_package", models=None)
