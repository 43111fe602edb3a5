"""Made-up data sets, and what is prepared of them, once for all tests."""

from pathlib import Path

import pytest

from tests.tools.recognition import made_up
from tools.recognition import prepare


@pytest.fixture(scope="session")
def made_up_sets(tmp_path_factory) -> dict[str, tuple[Path, list[made_up.Shown]]]:
    """Folder of each set, and what its clips show."""
    root = tmp_path_factory.mktemp("sets")
    sets = {}
    for name, make in made_up.SETS.items():
        (root / name).mkdir()
        sets[name] = root / name, make(root / name)
    return sets


@pytest.fixture(scope="session")
def prepared_sets(made_up_sets, tmp_path_factory) -> dict[str, Path]:
    """Folder of each set after tools/recognition/prepare.py."""
    root = tmp_path_factory.mktemp("prepared")
    for name, (folder, _) in made_up_sets.items():
        more = [] if name in ("casme2", "samm") else ["--faces", "3"]  # faster
        out = ["--out", str(root / name), "--jobs", "1"]
        assert prepare.main([name, str(folder), *out, *more]) == 0
    return {name: root / name for name in made_up_sets}
