import pytest

from realtime_mer.archive import content, storage
from realtime_mer.archive.content import Content
from realtime_mer.archive.inputs import ENDINGS, find_inputs
from realtime_mer.command import archive as archive_command
from realtime_mer.errors import InputError
from realtime_mer.redaction import redacted

pytest.importorskip("fsspec")


@pytest.fixture
def talks(tmp_path):
    """The address of a folder."""
    for name in ("b.mp4", "deep/a.MKV", "notes.txt", ".hidden/c.mp4"):
        path = tmp_path / "talks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return f"file://{tmp_path}/talks"


def test_an_address_names_a_file_a_folder_or_a_pattern(talks):
    both = [f"{talks}/b.mp4", f"{talks}/deep/a.MKV"]
    assert storage.find(talks, ENDINGS) == both
    assert storage.find(f"{talks}/*.mp4", ENDINGS) == both[:1]
    assert storage.find(f"{talks}/notes.txt", ENDINGS) == [f"{talks}/notes.txt"]
    with pytest.raises(InputError, match="names no video"):
        storage.find(f"{talks}/absent", ENDINGS)


@pytest.mark.parametrize(
    "address", ["s3://key:secret@bucket/a.mp4", "s3://bucket/a.mp4?X-Amz-Signature=secret"]
)
def test_keys_in_an_address_are_refused_and_not_shown(address):
    with pytest.raises(InputError, match="leave user names, keys and signatures out") as error:
        storage.find(address, ENDINGS)
    assert "secret" not in str(error.value)


def test_without_keys_an_address_is_shown_as_it_is():
    assert redacted("s3://bucket/talks/Anna 3.mp4") == "s3://bucket/talks/Anna 3.mp4"
    assert "secret" not in redacted("gs://key:secret@bucket/a.mp4")


def test_a_missing_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=r"needs the package gcsfs.*pip install gcsfs"):
        storage.find("gs://bucket/a.mp4", ENDINGS)


def test_addresses_are_for_clusters(talks):
    with pytest.raises(InputError, match="reads with --ray alone"):
        find_inputs([talks], [], "results")
    assert len(find_inputs([talks], [], "results", stored=True)) == 2


def test_a_copy_is_what_the_hash_is_of(talks, tmp_path):
    plain = Content(f"{tmp_path}/talks/b.mp4")
    copied = Content(f"{talks}/b.mp4", copy=tmp_path / "copy.mp4")
    for read in (plain, copied):
        read.start()
        assert read.wait(60)
        assert read.error is None
    assert copied.sha256 == plain.sha256
    assert (tmp_path / "copy.mp4").read_text() == "b.mp4"


def test_a_changed_file_has_another_mark(talks, tmp_path):
    before = storage.look(f"{talks}/b.mp4")
    (tmp_path / "talks/b.mp4").write_text("c.mp4")
    assert storage.look(f"{talks}/b.mp4") != before


def read(talks, tmp_path) -> Content:
    file = Content(f"{talks}/b.mp4", copy=tmp_path / "copy.mp4")
    file.start()
    assert file.wait(60)
    return file


@pytest.mark.parametrize("size", [3, 8])
def test_a_storage_that_gives_more_or_less_than_it_promised_is_refused(
    talks, tmp_path, monkeypatch, size
):
    monkeypatch.setattr(storage, "look", lambda source: (size, 0))
    file = read(talks, tmp_path)
    assert f"{size} bytes" in file.error
    assert file.sha256 is None


def test_a_copy_for_which_there_is_no_room_is_refused(talks, tmp_path, monkeypatch):
    monkeypatch.setattr(content, "_FREE_BYTES", 1 << 62)
    assert "has no room for it" in read(talks, tmp_path).error


def test_results_go_into_a_folder_not_to_an_address(capsys):
    with pytest.raises(SystemExit) as ended:
        archive_command.parse(["a.mp4", "--results", "s3://key:secret@bucket/results"], "archive")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "name a folder" in said
    assert "secret" not in said
