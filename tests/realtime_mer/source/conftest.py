"""A stream's server for the tests of sources."""

import pytest

from tests.realtime_mer.source.sources import StreamServer


@pytest.fixture
def server(tmp_path):
    server = StreamServer(file=tmp_path / "clip.avi")
    yield server
    server.stop()
