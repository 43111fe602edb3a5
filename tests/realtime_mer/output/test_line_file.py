"""A file of lines on full disks and in the hands of others; the faults are real ones."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from realtime_mer.errors import InputError
from realtime_mer.output import line_file
from realtime_mer.output.line_file import Continuation, LineFile

resource = pytest.importorskip("resource", reason="Windows lets nobody touch an open file")

HEAD = b"head\n"


def resume(old):
    return Continuation(old.size, [HEAD])


def lost(count):
    return b"lost %d\n" % count


@pytest.fixture
def notes():
    return []


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.txt"


@pytest.fixture
def file(path, notes):
    file = LineFile(path, notes.append)
    file.open(resume, lost)
    yield file
    with contextlib.suppress(InputError):
        file.close()


@contextlib.contextmanager
def disk_full_at(size):
    """No file of this process may be longer: a line that reaches beyond is cut off there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# One session at a time


def test_second_session_is_refused_under_every_name_of_the_file(file, path, tmp_path):
    os.link(path, tmp_path / "hard")
    os.symlink(path, tmp_path / "soft")
    for name in (path, tmp_path / "hard", tmp_path / "soft", os.path.relpath(path)):
        with pytest.raises(InputError, match="is in use: another session writes into it"):
            LineFile(name)
    file.write(b"mine\n")
    assert path.read_bytes() == HEAD + b"mine\n"


def test_file_that_comes_into_use_after_the_check_is_refused_when_it_is_opened(path):
    first, second = LineFile(path), LineFile(path)
    first.open(resume)
    with pytest.raises(InputError, match="in use"):
        second.open(resume)
    first.close()
    second.open(resume)
    second.close()
    assert path.read_bytes() == 2 * HEAD


def test_killed_session_leaves_the_file_free(path):
    code = (
        "import sys, time\n"
        "from realtime_mer.output.line_file import Continuation, LineFile\n"
        "file = LineFile(sys.argv[1])\n"
        "file.open(lambda old: Continuation(old.size, [b'theirs\\n']))\n"
        "print('open', flush=True)\n"
        "time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"open\n"
    with pytest.raises(InputError, match="in use"):
        LineFile(path)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    file = LineFile(path)
    file.open(resume)
    file.close()
    assert path.read_bytes() == b"theirs\n" + HEAD


# A full disk


def test_line_that_a_full_disk_cuts_off_is_taken_back_and_written_when_there_is_room(
    file, path, notes
):
    file.write(b"first\n")
    with disk_full_at(14):
        file.write(b"second\n")
        assert path.read_bytes() == b"head\nfirst\n"
        file.write(b"third\n")
    assert len(notes) == 1
    assert "log.txt cannot be written: File too large." in notes[0]
    file.write(b"fourth\n")
    assert path.read_bytes() == b"head\nfirst\nsecond\nthird\nfourth\n"
    assert notes[1:] == [f"{path} is written again. Nothing is missing."]
    file.close()


def test_lines_that_wait_are_written_without_another_one(file, path, monkeypatch):
    monkeypatch.setattr(line_file, "_LOOK_EVERY_S", 0.0)
    with disk_full_at(5):
        file.write(b"first\n")
    assert path.read_bytes() == HEAD
    file.look()
    assert path.read_bytes() == HEAD + b"first\n"


def test_lines_that_cannot_be_written_are_shown_at_the_end(file, path, notes):
    with disk_full_at(5):
        file.write(b"first \x1b[31m\n", b"second\n")
        with pytest.raises(InputError) as caught:
            file.close()
    assert str(caught.value) == (
        f"{path} cannot be written: File too large. 2 lines are missing in it, but shown in the "
        "notes before this."
    )
    assert notes[1:] == [f"not in {path}: first \\x1b[31m", f"not in {path}: second"]
    assert path.read_bytes() == HEAD


def test_lines_that_waited_too_long_are_counted(file, path, notes, monkeypatch):
    monkeypatch.setattr(line_file, "_MAX_WAITING", 2)
    with disk_full_at(5):
        for k in range(5):
            file.write(b"%d\n" % k)
    file.write()
    assert path.read_bytes() == b"head\nlost 3\n3\n4\n"
    assert notes[-1] == f"{path} is written again. 3 lines are missing."
    with pytest.raises(InputError, match="3 lines are lost"):
        file.close()


def test_full_disk_at_the_start_is_an_error(path):
    file = LineFile(path)
    with disk_full_at(3), pytest.raises(InputError, match=r"log.txt cannot be written"):
        file.open(resume)
    assert path.read_bytes() == b""
    assert not file.is_open


def test_line_that_was_cut_off_stays_if_there_is_no_room_to_replace_it(path):
    path.write_bytes(b"whole\nhal")
    file = LineFile(path)
    with disk_full_at(9), pytest.raises(InputError):
        file.open(lambda old: Continuation(6, [b"lost: hal\n", HEAD]))
    assert path.read_bytes() == b"whole\nhal"


def test_ctrl_c_while_a_line_is_written_neither_loses_nor_repeats_it(file, path, monkeypatch):
    write = os.write
    for when in ("before", "within", "after"):

        def interrupted(fd, data, when=when):
            monkeypatch.setattr(os, "write", write)
            write(fd, {"before": b"", "within": data[:3], "after": data}[when])
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            file.write(b"one %s\n" % when.encode(), b"two\n")
    file.close()
    expected = [line for when in ("before", "within", "after") for line in (f"one {when}", "two")]
    assert path.read_text().splitlines() == ["head", *expected]


def test_missing_line_is_shown_whole_and_without_what_a_reader_would_not_see(file, path, notes):
    with disk_full_at(5):
        file.write(b"x" * 5000 + "\u2800\n".encode())
        with pytest.raises(InputError):
            file.close()
    assert notes[1:] == [f"not in {path}: {'x' * 5000}\\u2800"]


# Others


def test_deleted_file_is_written_again_with_all_that_was_in_it(path, notes):
    path.write_bytes(b"older\n")
    file = LineFile(path, notes.append)
    file.open(resume)
    file.write(b"first\n")
    path.unlink()
    file.write(b"second\n")
    assert path.read_bytes() == b"older\nhead\nfirst\nsecond\n"
    assert notes == [f"{path} was deleted while in use. All of it is written again."]
    with pytest.raises(InputError, match="in use"):
        LineFile(path)
    path.unlink()
    file.close()
    assert path.read_bytes() == b"older\nhead\nfirst\nsecond\n"


def test_deleted_file_is_missed_without_a_line(file, path, monkeypatch):
    monkeypatch.setattr(line_file, "_LOOK_EVERY_S", 0.0)
    path.unlink()
    file.look()
    assert path.read_bytes() == HEAD


def test_deleted_file_whose_name_was_taken_has_this_session_at_its_end(file, path):
    file.write(b"first\n")
    path.unlink()
    path.write_bytes(b"theirs\n")
    file.write(b"second\n")
    file.close()
    assert path.read_bytes() == b"theirs\nhead\nfirst\nsecond\n"


def test_lines_of_a_file_that_was_deleted_with_its_folder_are_shown_at_the_end(tmp_path, notes):
    folder = tmp_path / "folder"
    folder.mkdir()
    file = LineFile(folder / "log.txt", notes.append)
    file.open(resume)
    file.write(b"first\n")
    (folder / "log.txt").unlink()
    folder.rmdir()
    file.write(b"second\n")
    assert "log.txt cannot be written: No such file or directory" in notes[0]
    with pytest.raises(InputError, match="2 lines are missing"):
        file.close()
    assert [note.split(": ")[1] for note in notes[1:]] == ["first", "second"]


def test_moved_file_stays_whole_and_a_new_one_goes_on(file, path, tmp_path, notes):
    file.write(b"first\n")
    path.rename(tmp_path / "log.1")
    file.write(b"second\n")
    file.close()
    assert (tmp_path / "log.1").read_bytes() == b"head\nfirst\n"
    assert path.read_bytes() == b"head\nsecond\n"
    assert notes == [f"{path} was moved while in use. A new file of that name goes on."]


def test_emptied_file_begins_anew(file, path, notes):
    file.write(b"first\n")
    os.truncate(path, 0)
    file.write(b"second\n")
    assert path.read_bytes() == b"head\nsecond\n"
    assert notes == [f"{path} was emptied while in use. It goes on with what comes next."]


def test_lines_that_others_add_stay(file, path):
    with path.open("ab") as other:
        other.write(b"theirs\n")
    file.write(b"mine\n")
    with path.open("ab") as other:
        other.write(b"half of thei")
    file.write(b"mine\n")
    assert path.read_bytes() == b"head\ntheirs\nmine\nhalf of thei\nmine\n"


def test_file_is_found_again_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    file = LineFile("log.txt")
    file.open(resume)
    monkeypatch.chdir(tmp_path / "elsewhere")
    file.write(b"first\n")
    file.close()
    assert (tmp_path / "log.txt").read_bytes() == b"head\nfirst\n"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_pipe_gets_every_line_and_may_be_closed_by_its_reader(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []

    def follow():
        with pipe.open("rb") as reader:
            read.extend((reader.readline(), reader.readline()))

    reader = threading.Thread(target=follow)
    reader.start()
    notes = []
    file = LineFile(pipe, notes.append)
    file.open(resume)
    file.write(b"first\n")
    reader.join()
    file.write(b"second\n")
    assert read == [HEAD, b"first\n"]
    assert "pipe cannot be written: Broken pipe" in notes[0]
    with pytest.raises(InputError, match="1 line is missing"):
        file.close()
    assert notes[1] == f"not in {pipe}: second"


def test_line_is_one_call_to_the_system(file, monkeypatch):
    written, write = [], os.write
    monkeypatch.setattr(
        os, "write", lambda fd, data: written.append(bytes(data)) or write(fd, data)
    )
    lines = [b"x" * 5000 + b"\n", b"second\n"]
    file.write(*lines)
    assert written == lines
