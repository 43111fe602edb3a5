"""MediaPipe is loaded without matplotlib and sounddevice, which still work for everybody else."""

import subprocess
import sys

import pytest

LOADED = "import sys, realtime_mer.face.mediapipe_tasks as tasks\n"


def run(code: str, tmp_path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_matplotlib_is_not_loaded_and_nothing_is_written_to_home(tmp_path):
    assert run(LOADED + "print('matplotlib' in sys.modules)", tmp_path) == "False"
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_is_the_real_one_for_who_imports_it_afterwards(tmp_path):
    pytest.importorskip("matplotlib")
    code = LOADED + "import matplotlib.pyplot as plt; print(plt.figure().__class__.__name__)"
    assert run(code, tmp_path) == "Figure"


def test_drawing_helpers_of_mediapipe_still_find_matplotlib(tmp_path):
    pytest.importorskip("matplotlib")
    code = LOADED + "print(tasks.vision.drawing_utils.plt.figure().__class__.__name__)"
    assert run(code, tmp_path) == "Figure"


def test_matplotlib_that_was_there_before_stays(tmp_path):
    pytest.importorskip("matplotlib")
    code = "import matplotlib; " + LOADED + "print(sys.modules['matplotlib'] is matplotlib)"
    assert run(code, tmp_path) == "True"


def test_sounddevice_is_not_loaded(tmp_path):
    assert run(LOADED + "print('sounddevice' in sys.modules)", tmp_path) == "False"


def test_the_microphone_of_mediapipe_still_finds_sounddevice(tmp_path):
    # A module of that name in place of the real one, which needs the PortAudio library.
    (tmp_path / "sounddevice.py").write_text("InputStream = 'the real one'")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{LOADED}"
    code += "from mediapipe.tasks.python.audio.core import audio_record\n"
    assert run(code + "print(audio_record.sd.InputStream)", tmp_path) == "the real one"
