import json

import pytest

from realtime_mer.archive.manifest import Manifest
from realtime_mer.archive.results_folder import ResultsFolder
from realtime_mer.errors import InputError

PROGRAM = {"name": "realtime_mer", "version": "1"}
SETTINGS = {"faces": 1}
HASHES = ("a" * 64, "b" * 64)


@pytest.fixture
def folder(tmp_path) -> ResultsFolder:
    return ResultsFolder(tmp_path)


def opened(folder, program=PROGRAM, settings=SETTINGS) -> Manifest:
    return Manifest(folder, program, settings)


def finish(folder, manifest, entry) -> None:
    video = folder.video(entry)
    video.folder.mkdir(parents=True)
    video.log.write_text("{}\n")
    manifest.change(entry, state="done", events=0, made_with=manifest.made_with)


@pytest.fixture
def one_done(folder) -> dict:
    """The entry of `a.mp4`, done and written."""
    manifest = opened(folder)
    entry = manifest.add("a.mp4", HASHES[0], 10, 1)
    finish(folder, manifest, entry)
    manifest.write(now=True)
    return entry


def test_what_is_done_stays_done(folder, one_done):
    manifest = opened(folder)
    assert manifest.is_done(manifest.of_content(HASHES[0]))
    assert manifest.known("a.mp4", 10, 1) == HASHES[0]


def test_a_file_that_was_touched_is_read_again(folder, one_done):
    manifest = opened(folder)
    assert manifest.known("a.mp4", 10, 2) is None
    assert manifest.known("a.mp4", 11, 1) is None


@pytest.mark.parametrize(
    ("program", "settings"),
    [(PROGRAM | {"version": "2"}, SETTINGS), (PROGRAM, {"faces": 2})],
    ids=["program", "settings"],
)
def test_other_settings_undo_what_is_done_and_the_old_ones_bring_it_back(
    folder, one_done, program, settings
):
    manifest = opened(folder, program, settings)
    (entry,) = manifest.entries
    assert entry["state"] == "waiting"
    assert "other settings" in entry["reason"]
    manifest.write(now=True)
    assert list(folder.done()) == []
    (entry,) = opened(folder).entries
    assert (entry["state"], entry["reason"]) == ("done", None)


def test_libraries_alone_undo_nothing(folder, one_done):
    (entry,) = opened(folder, PROGRAM | {"libraries": {"numpy": "9"}}).entries
    assert entry["state"] == "done"


def test_results_that_were_deleted_are_made_again(folder, one_done):
    folder.video(one_done).log.unlink()
    manifest = opened(folder)
    assert not manifest.is_done(manifest.entries[0])


def test_what_ran_when_an_archive_was_killed_waits(folder):
    manifest = opened(folder)
    manifest.change(manifest.add("a.mp4", HASHES[0], 10, 1), state="running")
    manifest.write(now=True)
    assert opened(folder).entries[0]["state"] == "waiting"


def test_results_of_the_content_that_a_file_had_before_count_no_more(folder, one_done):
    manifest = opened(folder)
    entry = manifest.add("a.mp4", HASHES[1], 12, 2)
    assert manifest.entries == [entry]
    assert entry["state"] == "waiting"
    manifest.write(now=True)
    assert folder.manifest["replaced"][0]["sha256"] == HASHES[0]
    assert folder.video(one_done).log.is_file(), "they are not deleted"


def test_a_file_that_was_moved_keeps_its_results(folder, one_done):
    manifest = opened(folder)
    entry = manifest.add("elsewhere/a.mp4", HASHES[0], 10, 1)
    assert manifest.is_done(entry)
    assert entry["key"] == one_done["key"]
    assert entry["source"] == "elsewhere/a.mp4"


def test_a_content_that_comes_back_is_not_done_again(folder, one_done):
    manifest = opened(folder)
    manifest.add("a.mp4", HASHES[1], 12, 2)
    manifest.write(now=True)
    manifest = opened(folder)
    entry = manifest.add("a.mp4", HASHES[0], 10, 3)
    assert manifest.is_done(entry)
    assert entry["key"] == one_done["key"]
    manifest.write(now=True)
    assert [e["sha256"] for e in folder.manifest["replaced"]] == [HASHES[1]]


def test_a_file_that_cannot_be_read_for_a_while_keeps_its_results(folder, one_done):
    manifest = opened(folder)
    for attempt in (1, 2):
        entry = manifest.add("a.mp4", None, 0, 0)
        manifest.change(entry, state="failed", attempts=entry["attempts"] + 1)
        assert entry["attempts"] == attempt
    assert [e["state"] for e in manifest.entries] == ["failed"]
    manifest.write(now=True)
    manifest = opened(folder)
    assert manifest.is_done(manifest.add("a.mp4", HASHES[0], 10, 1))
    assert [e["state"] for e in manifest.entries] == ["done"]


def test_files_of_one_name_in_two_folders_are_two(folder, tmp_path, monkeypatch):
    for name, sha256 in zip(("monday", "tuesday"), HASHES, strict=True):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        manifest = opened(folder)
        finish(folder, manifest, manifest.add("a.mp4", sha256, 10, 1))
        manifest.write(now=True)
    assert [e["sha256"] for e in folder.manifest["videos"]] == [*HASHES]
    assert str(tmp_path) not in folder.manifest_path.read_text()


def test_an_entry_without_all_fields_is_one_all_the_same(folder):
    entry = {"key": "a-0", "source": "a.mp4", "state": "done"}
    content = {"format": 1, "videos": [entry], "replaced": [entry]}
    folder.manifest_path.write_text(json.dumps(content))
    manifest = opened(folder)
    assert manifest.known("a.mp4", 0, 0) is None
    assert not manifest.is_done(manifest.add("a.mp4", HASHES[0], 10, 1))


def test_a_duplicate_is_noted_and_not_read_again(folder, one_done):
    manifest = opened(folder)
    manifest.add_duplicate("b.mp4", HASHES[0], 10, 5, one_done)
    manifest.write(now=True)
    (duplicate,) = folder.manifest["duplicates"]
    assert (duplicate["source"], duplicate["same_as"]) == ("b.mp4", one_done["key"])
    assert opened(folder).known("b.mp4", 10, 5) == HASHES[0]


def test_two_contents_whose_hashes_begin_alike_have_folders_of_their_own(folder):
    manifest = opened(folder)
    keys = {manifest.add(f"{n}/a.mp4", "c" * 8 + n * 56, 10, 1)["key"] for n in "01"}
    assert len(keys) == 2


def test_it_is_not_written_at_every_change(folder):
    manifest = opened(folder)
    manifest.write()
    manifest.add("a.mp4", HASHES[0], 10, 1)
    manifest.write()
    assert folder.manifest["videos"] == []
    manifest.write(now=True)
    assert folder.manifest["videos"][0]["source"] == "a.mp4"


def test_a_disk_that_takes_nothing_leaves_the_old_manifest(folder, one_done, monkeypatch):
    from realtime_mer.archive import manifest as module
    from realtime_mer.errors import InputError

    before = folder.manifest_path.read_bytes()

    def refuse(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "replace_file", refuse)
    with pytest.raises(InputError, match=r"No space left.*run the same command again"):
        opened(folder).write(now=True)
    assert folder.manifest_path.read_bytes() == before


def test_a_name_that_is_not_utf_8_still_names_its_file(folder):
    manifest = opened(folder)
    finish(folder, manifest, manifest.add("caf\udce9.mp4", HASHES[0], 10, 1))
    manifest.write(now=True)
    assert next(folder.done()).source == "caf\udce9.mp4"


def changed_in_all_ways(folder) -> Manifest:
    """A manifest that was written whole, and then changed in all ways that a journal tells."""
    manifest = opened(folder)
    first = manifest.add("a.mp4", HASHES[0], 10, 1)
    manifest.add("b.mp4", HASHES[1], 10, 1)
    manifest.add_duplicate("c.mp4", HASHES[0], 10, 1, first)
    manifest.write(now=True)
    manifest.change(first, state="running")
    third = manifest.add("b.mp4", "c" * 64, 11, 2)  # another content
    manifest.write(now=True)
    manifest.add("c.mp4", "d" * 64, 12, 3)  # no duplicate any more
    manifest.add_duplicate("d.mp4", HASHES[0], 10, 1, first)
    manifest.add("e.mp4", HASHES[1], 10, 4)  # comes again
    manifest.change(third, state="failed", reason="it is no video")
    manifest.write(now=True)
    return manifest


def test_a_journal_tells_all_that_has_changed(folder):
    manifest = changed_in_all_ways(folder)
    whole = folder.manifest_path.read_bytes()
    told = folder.manifest
    assert folder.manifest_path.read_bytes() == whole, "it was not written whole again"
    manifest.close()
    assert not folder.journal_path.exists()
    del told["journal"]
    assert folder.manifest == told
    assert [e["source"] for e in told["videos"]] == ["a.mp4", "b.mp4", "c.mp4", "e.mp4"]
    assert [d["source"] for d in told["duplicates"]] == ["d.mp4"]
    assert told["replaced"] == []


def test_where_nothing_changed_nothing_is_left_of_the_journal_either(folder):
    manifest = opened(folder)
    manifest.write(now=True)
    manifest.close()
    assert "journal" not in folder.manifest


@pytest.mark.parametrize("line", ['{"entry": 5}', '{"replaced": {}}', '{"no_duplicate": []}'])
def test_a_journal_that_tells_something_else_is_named(folder, line):
    changed_in_all_ways(folder)
    with folder.journal_path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(InputError, match=r"journal of .* is damaged: delete its manifest\.journal"):
        _ = folder.manifest


def test_a_journal_that_a_kill_broke_off_counts_up_to_there(folder):
    manifest = opened(folder)
    entries = [manifest.add(f"{n}.mp4", HASHES[n], 10, 1) for n in (0, 1)]
    manifest.write(now=True)
    for entry in entries:
        manifest.change(entry, state="failed")
        manifest.write(now=True)
    content = folder.journal_path.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    for end in range(last, len(content)):
        folder.journal_path.write_bytes(content[:end])
        assert [e["state"] for e in folder.manifest["videos"]] == ["failed", "waiting"]
    folder.journal_path.write_bytes(content)
    assert [e["state"] for e in folder.manifest["videos"]] == ["failed", "failed"]


def test_a_journal_of_an_older_manifest_does_not_count(folder):
    manifest = changed_in_all_ways(folder)
    old = folder.journal_path.read_bytes()
    manifest.close()
    newer = opened(folder)
    newer.write(now=True)
    told = folder.manifest
    folder.journal_path.write_bytes(old)
    assert folder.manifest == told


def test_a_long_journal_is_made_one_with_the_manifest(folder, monkeypatch):
    from realtime_mer.archive import manifest as module

    monkeypatch.setattr(module, "_JOURNAL_BYTES", 2000)
    manifest = opened(folder)
    entry = manifest.add("a.mp4", HASHES[0], 10, 1)
    sizes = []
    for attempt in range(30):
        manifest.change(entry, attempts=attempt)
        manifest.write(now=True)
        assert folder.manifest["videos"][0]["attempts"] == attempt
        if folder.journal_path.exists():
            sizes.append(folder.journal_path.stat().st_size)
    assert max(sizes) < 3000


def test_a_manifest_that_someone_else_wrote_meanwhile_is_written_again(folder):
    manifest = opened(folder)
    manifest.write(now=True)
    folder.manifest_path.unlink()
    folder.manifest_path.write_text(json.dumps({"format": 1, "videos": []}))
    manifest.add("a.mp4", HASHES[0], 10, 1)
    manifest.write(now=True)
    assert [e["source"] for e in folder.manifest["videos"]] == ["a.mp4"]
