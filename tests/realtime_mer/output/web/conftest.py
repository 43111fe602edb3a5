import pytest

from tests.realtime_mer.output.web.viewers import Elsewhere


@pytest.fixture
def elsewhere(monkeypatch):
    monkeypatch.setattr("realtime_mer.output.web.view.Guard", Elsewhere)
