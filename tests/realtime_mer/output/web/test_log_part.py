"""The part of a log that belongs to one session."""

import os

from realtime_mer.output.web.log_part import LogPart

FIRST = b'{"type": "session", "source": "b"}\n'


def whole(part):
    blocks = part.blocks()
    return None if blocks is None else b"".join(blocks)


def test_only_whole_lines_of_this_session_are_read(tmp_path):
    log = tmp_path / "a.jsonl"
    log.write_bytes(b'{"type": "session", "source": "a"}\n{"type": "summary"}\n' + FIRST)
    part = LogPart(log, FIRST)
    assert whole(part) == FIRST
    with log.open("ab") as file:
        file.write(b'{"type": "gap"}\n{"type": "ga')
        file.flush()
        assert whole(part) == FIRST + b'{"type": "gap"}\n'
        file.write(b"p" * 40_000 + b'"}')
        file.flush()
        assert whole(part) == FIRST + b'{"type": "gap"}\n'
        file.write(b"\n" + b'{"type": "gap"}\n' * 3000)
        file.flush()
        assert whole(part).endswith(b'p"}\n' + b'{"type": "gap"}\n' * 3000)


def test_a_log_that_was_moved_is_read_from_its_new_beginning(tmp_path):
    log = tmp_path / "a.jsonl"
    log.write_bytes(b'{"type": "summary"}\n' * 100 + FIRST)
    part = LogPart(log, FIRST)
    log.rename(tmp_path / "old.jsonl")
    assert whole(part) is None
    log.write_bytes(FIRST + b'{"type": "gap"}\n')
    assert whole(part) == FIRST + b'{"type": "gap"}\n'


def test_another_file_in_its_place_is_not_read(tmp_path):
    log = tmp_path / "a.jsonl"
    log.write_bytes(FIRST)
    part = LogPart(log, FIRST)
    log.write_bytes(b"my diary\n" * 100)
    assert whole(part) is None


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert whole(LogPart(tmp_path / "pipe", FIRST)) is None
