import os

import pytest

from realtime_mer.archive.inputs import find_inputs
from realtime_mer.errors import InputError


@pytest.fixture
def talks(tmp_path, monkeypatch):
    """A folder with videos, a folder in it, and what is none of them."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.mp4", "a.MKV", "notes.txt", ".hidden.mp4", "deep/c.avi", ".cache/d.mp4"):
        path = tmp_path / "talks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "talks"


def found(*sources, lists=(), results="results"):
    return [os.path.relpath(path) for path in find_inputs(sources, lists, results)]


def test_a_folder_gives_the_videos_in_it_by_name(talks):
    assert found("talks") == ["talks/a.MKV", "talks/b.mp4", "talks/deep/c.avi"]


def test_a_file_that_is_named_may_end_otherwise(talks):
    assert found("talks/notes.txt", "talks/b.mp4") == ["talks/notes.txt", "talks/b.mp4"]


def test_links_that_go_round_in_circles_end(talks):
    (talks / "deep" / "up").symlink_to(talks)
    (talks / "deep" / "self").symlink_to(talks / "deep" / "self")
    assert found("talks") == ["talks/a.MKV", "talks/b.mp4", "talks/deep/c.avi"]


def test_a_file_under_two_names_counts_once(talks):
    (talks / "z.mp4").symlink_to(talks / "b.mp4")
    assert found("talks/b.mp4", "talks", "talks/../talks/b.mp4") == [
        *("talks/b.mp4", "talks/a.MKV", "talks/deep/c.avi")
    ]


def test_the_results_are_no_inputs(talks):
    clip = talks / "results" / "videos" / "b" / "events" / "0001.mp4"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"")
    assert "talks/results" not in " ".join(found("talks", results=talks / "results"))


def test_results_of_another_archive_are_no_inputs(talks):
    for name in ("old/manifest.json", "old/videos/b/events/0001.mp4"):
        (talks / name).parent.mkdir(parents=True, exist_ok=True)
        (talks / name).write_bytes(b"")
    assert found("talks") == ["talks/a.MKV", "talks/b.mp4", "talks/deep/c.avi"]


def test_patterns_are_read_where_the_shell_leaves_them(talks):
    assert found("talks/**/*.avi", "talks/?.mp4") == ["talks/deep/c.avi", "talks/b.mp4"]


@pytest.mark.parametrize("as_option", [True, False])
def test_a_list_has_a_path_a_line(talks, as_option):
    lines = ["# chosen", "", "talks/deep", " talks/b.mp4 "]
    (talks.parent / "list.txt").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    expected = ["talks/deep/c.avi", "talks/b.mp4"]
    assert (found(lists=["list.txt"]) if as_option else found("@list.txt")) == expected


def test_a_pattern_finds_no_results_either(talks):
    for name in ("old/manifest.json", "old/videos/b/events/0001.mp4", "own/videos/c/0001.mp4"):
        (talks / name).parent.mkdir(parents=True, exist_ok=True)
        (talks / name).write_bytes(b"")
    assert found("talks/**/*.mp4", results=talks / "own") == ["talks/b.mp4"]
    with pytest.raises(InputError, match="matches nothing"):
        found("talks/old/**/*.mp4")


def test_a_name_in_a_list_may_have_any_character(talks):
    name = "a\u2028b\x85c\x0b.mp4"
    (talks / name).write_bytes(b"")
    (talks.parent / "list.txt").write_text(f"talks/{name}\n", encoding="utf-8")
    assert found("@list.txt") == [f"talks/{name}"]


def test_a_video_in_place_of_a_list_does_not_fill_the_memory(talks):
    with (talks / "b.mp4").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="it has more than 64 MiB"):
        found(lists=["talks/b.mp4"])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["absent.mp4"], "absent.mp4 does not exist"),
        (["talks/*.webm"], "matches nothing"),
        (["talks/.cache/../empty"], "does not exist"),
        (["@absent.txt"], "the list absent.txt cannot be read"),
        (["0"], "is no file"),
        (["rtsp://admin:1234@10.0.0.2/live"], r"rtsp://\*\*\*@10.0.0.2/live is no file"),
    ],
)
def test_what_is_not_there_is_said_before_anything_begins(talks, sources, message):
    with pytest.raises(InputError, match=message):
        found(*sources)


def test_a_folder_without_videos_is_an_error(talks):
    (talks / "empty").mkdir()
    with pytest.raises(InputError, match="no video was found"):
        found("talks/empty")
