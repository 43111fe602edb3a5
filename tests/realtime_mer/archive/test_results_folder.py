import json

import pytest

from realtime_mer.archive.results_folder import ResultsFolder, key_of
from realtime_mer.errors import InputError
from tests.results import EVENTS, make_results


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> ResultsFolder:
    return make_results(tmp_path_factory.mktemp("archive") / "results")


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("talks/Interview 3.mp4", "Interview-3-01234567"),
        ("a/../..", "video-01234567"),
        ("-rf *.mp4", "rf-01234567"),
        ("Gespräch.mp4", "Gespräch-01234567"),
        (".hidden", "hidden-01234567"),
        ("x" * 300 + ".mp4", "x" * 64 + "-01234567"),
        ("\udcff\udcfe.mp4", "video-01234567"),  # not UTF-8
    ],
)
def test_a_key_is_harmless_on_every_file_system(source, key):
    assert key_of(source, "0123456789abcdef") == key


def test_only_what_is_done_is_read(results):
    videos = list(results.done())
    assert [video.source.rpartition("/")[2] for video in videos] == list(EVENTS)
    assert len(results.manifest["videos"]) == 3


def test_events_are_numbered_in_the_order_of_the_log(results):
    video = next(results.done())
    assert [(e["number"], e["onset_s"], e["label"]) for e in video.events()] == [
        (number, onset_s, label)
        for number, (onset_s, label, _, _) in enumerate(EVENTS["first talk.mp4"], 1)
    ]


def test_a_clip_comes_with_the_moments_of_its_event(results):
    video = next(results.done())
    info = video.clip_info(1)
    assert video.clip(1).name == "0001.mp4"
    assert info["start_s"] < info["onset_s"] < info["apex_s"] < info["offset_s"]
    assert video.thumbnail(1).is_file()


def test_what_was_not_kept_is_none(results):
    *_, last = results.done()
    assert (last.clip(1), last.clip_info(1), last.thumbnail(7)) == (None, None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no results folder"),
        ("{", "cannot be read"),
        ('{"name": "an extension of a browser"}', "is no results folder"),
        ('{"format": 99, "videos": []}', "format 99"),
        ('{"format": 1, "videos": [7]}', "is damaged"),
        ('{"format": 1, "videos": [{"state": "done", "source": "a.mp4"}]}', "is damaged"),
        ('{"format": 1, "videos": [], "duplicates": [{}]}', "is damaged"),
        ('{"format": 1, "videos": [], "settings": []}', "is damaged"),
    ],
)
def test_another_folder_is_told_from_results(tmp_path, content, message):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=message):
        list(ResultsFolder(tmp_path).done())


@pytest.mark.parametrize("key", ["../elsewhere", "..", "", "/etc"])
def test_a_manifest_leads_to_no_folder_outside_the_results(tmp_path, key):
    entry = {"key": key, "state": "done", "source": "a.mp4"}
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "videos": [entry]}))
    with pytest.raises(InputError, match="outside"):
        list(ResultsFolder(tmp_path).done())


def test_a_log_that_is_gone_is_said_with_the_remedy(tmp_path):
    folder = make_results(tmp_path / "results")
    video = next(folder.done())
    video.log.unlink()
    with pytest.raises(InputError, match="run the archive again"):
        video.events()


def test_a_log_without_a_line_is_no_log(tmp_path):
    video = next(make_results(tmp_path / "results").done())
    video.log.write_bytes(b"")
    with pytest.raises(InputError, match=r"is empty.*run the archive again"):
        video.records()


def test_a_face_leads_to_no_picture_elsewhere(tmp_path):
    video = next(make_results(tmp_path / "results").done())
    assert (video.folder / "faces" / "../faces/0.jpg").is_file()
    assert video.thumbnail("../faces/0") is None
