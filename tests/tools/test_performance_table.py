"""Rows of docs/performance.md."""

import datetime
import subprocess

import pytest

from realtime_mer.errors import InputError
from tools.performance_table import COLUMNS, TABLE, Revision, append, revision, row

RESULT = {
    "video": "a|b.mp4",
    "size": [640, 480],
    "source_fps": 29.97002997,
    "runs": 5,
    "spread": {
        "ratio": {"min": 0.5612, "median": 0.58, "max": 0.6},
        "naming_ratio": {"min": 0.7, "median": 0.75, "max": 1.0},
        "track_share": {"min": 0.7, "median": 0.734, "max": 0.8},
        "register_share": {"min": 0.0, "median": 0.02, "max": 0.1},
        "flow_share": {"min": 0.1, "median": 0.1, "max": 0.1},
        "chain_cpu_s": {"min": 20, "median": 22.26, "max": 23},
        "tracker_cpu_s": {"min": 15, "median": 16, "max": 17},
    },
}


def cells_of(of: Revision) -> dict[str, str]:
    return row(RESULT, of, datetime.date(2026, 1, 31))


def test_a_row_holds_ratios_and_says_what_they_belong_to():
    cells = cells_of(Revision("abc1234", False))
    assert cells["date"] == "2026-01-31"
    assert cells["revision"] == "abc1234"
    assert " cores, " in cells["machine"]
    assert "OpenCV" in cells["libraries"]
    assert "MediaPipe" in cells["libraries"]
    assert cells["video"] == "a/b.mp4, 640 x 480, 29.97 fps"
    assert cells["chain"] == "0.58 (0.56 to 0.60)"
    assert cells["naming"] == "0.75 (0.70 to 1.00)"
    assert cells["track, register, flow, spot"] == "73, 2, 10, ? %"
    assert cells["CPU s a minute"] == "22.3 (20.0 to 23.0) beside 16.0 (15.0 to 17.0)"
    assert cells["archive"] == "not measured"


def test_a_row_says_that_files_differ_from_the_revision():
    assert cells_of(Revision("abc1234", True))["revision"] == "abc1234, with changes"


def test_rows_are_added_at_the_end_of_the_documents_table(tmp_path):
    path, before = tmp_path / "performance.md", TABLE.read_text(encoding="utf-8")
    path.write_text(before, encoding="utf-8")
    for name in ("first", "second"):
        append(cells_of(Revision(name, False)), path)
    after = path.read_text(encoding="utf-8")
    assert after.startswith(before)
    added = after.removeprefix(before).splitlines()
    assert [line.split(" | ")[1] for line in added] == ["first", "second"]
    assert {line.count(" | ") for line in added} == {len(COLUMNS) - 1}


@pytest.mark.parametrize(
    "content", [None, "", "# Other\n", "| a | b |\n| --- | --- |\n", "text after\n"]
)
def test_a_file_without_the_table_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "other.md"
    if content == "text after\n":
        content = TABLE.read_text(encoding="utf-8") + content
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"other\.md.*restore docs/performance\.md"):
        append(cells_of(Revision("abc", False)), path)
    assert (path.read_text(encoding="utf-8") if path.exists() else None) == content


def test_a_checkout_tells_its_revision_and_whether_files_differ(tmp_path):
    def git(*arguments: str) -> str:
        settings = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", "-C", str(tmp_path), *settings, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    table, code = tmp_path / "docs" / "performance.md", tmp_path / "code.py"
    table.parent.mkdir()
    table.write_text("1")
    code.write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    clean = revision(tmp_path, table)
    assert clean == Revision(git("rev-parse", "--short", "HEAD"), False)
    table.write_text("2")
    assert revision(tmp_path, table) == clean
    code.write_text("2")
    assert revision(tmp_path, table).is_dirty


def test_what_is_no_checkout_has_no_revision(tmp_path):
    with pytest.raises(InputError, match="no git checkout"):
        revision(tmp_path)
