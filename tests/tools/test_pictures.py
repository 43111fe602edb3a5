"""The pictures of the README are real, and what README and docs/ name exists."""

import ast
import io
import json
import re
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from PIL import Image

from realtime_mer.command.options import parser
from realtime_mer.demo import clip as demo
from realtime_mer.errors import InputError
from realtime_mer.output.log import schema
from realtime_mer.output.overlay import LABEL_COLOURS
from realtime_mer.results import Interval, MicroExpression
from tools import pictures

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
"""README and docs."""


def files_named_in(page: Path) -> set[str]:
    """Targets of relative links, from the page's folder."""
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    return {link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder of the pictures that need no browser, of the first five seconds of the demo clip."""
    folder = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "LENGTH_S", 5.0)
        assert pictures.main(["overlay", "demo", "terminal", "--out", str(folder)]) == 0
    return folder


def label_pixels(picture: np.ndarray, label: str) -> int:
    """Pixels of a BGR picture in about a label's colour."""
    colour = LABEL_COLOURS[("negative", "positive", "surprise").index(label)]
    return int((np.abs(picture.astype(int) - colour).max(axis=-1) < 24).sum())


# The first micro-expression of the demo clip is a surprise that is named right.
LABEL = "surprise"


def test_the_overlay_shows_the_video_and_the_events_label(made):
    picture = cv2.imread(str(made / "overlay.png"))
    assert picture.shape == (480, 904, 3)
    video, panel = picture[:, :640], picture[:, 640:]
    assert video.std() > 30
    # The outline of the face, and the card with the event.
    assert label_pixels(video, LABEL) > 500
    assert label_pixels(panel, LABEL) > 500
    assert label_pixels(video, "positive") < 100


def test_the_moving_picture_moves_and_ends_with_the_label(made):
    file = made / "demo.gif"
    assert file.stat().st_size < 3_000_000
    animation = Image.open(file)
    assert animation.size == (640, 376)
    assert animation.info["loop"] == 0
    assert animation.n_frames > 10
    frames = []
    for index in range(animation.n_frames):
        animation.seek(index)
        frames.append(np.array(animation.convert("RGB"))[..., ::-1].astype(int))
    face = slice(28, 348), slice(320, 640)
    changes = [np.abs(frame[face] - frames[0][face]).mean() for frame in frames]
    # The enlarged face moves and comes back.
    assert max(changes) > 3
    assert changes[-1] < max(changes) / 3
    assert label_pixels(frames[-1], LABEL) > label_pixels(frames[0], LABEL) + 500


def test_the_terminal_is_an_svg_with_the_event(made):
    svg = (made / "terminal.svg").read_text("utf-8")
    words = re.sub(r"<[^>]*>", " ", svg).replace("&#160;", " ")
    assert svg.startswith("<svg")
    assert LABEL in words
    assert "demo.avi" in words
    assert "latency" in words
    # It draws without fetching anything.
    assert "url(http" not in svg
    assert 'url("http' not in svg


def test_without_a_browser_the_page_is_skipped_and_the_user_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "LENGTH_S", 5.0)
    monkeypatch.setattr(pictures, "_BROWSERS", ("no-such-browser",))
    assert pictures.main(["page", "--out", str(tmp_path)]) == 1
    assert "Chromium" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(pictures.find_browser() is None, reason="no Chromium is installed")
def test_the_page_is_shown_with_its_video(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "LENGTH_S", 5.0)
    if pictures.main(["page", "--out", str(tmp_path)]) == 2:
        pytest.skip("this Chromium cannot be driven (a snap sees no temporary folders)")
    picture = cv2.imread(str(tmp_path / "page.png"))
    assert picture.shape == (750, 1200, 3)
    video, panel = picture[60:560, 20:760], picture[60:, 790:]
    assert video.std() > 30
    # The event on the face, and in the list at the right.
    assert label_pixels(video, LABEL) > 500
    assert label_pixels(panel, LABEL) > 500


def hidden(onset_s: float, label: str, peak_px: float) -> demo.HiddenEvent:
    return demo.HiddenEvent(Interval(onset_s, onset_s + 0.2, onset_s + 0.4), label, (), peak_px)


def found(onset_s: float, label: str) -> MicroExpression:
    interval = Interval(onset_s, onset_s + 0.2, onset_s + 0.4)
    return MicroExpression(0, interval, {label: 0.9, "other": 0.1}, 2.0, onset_s + 0.5)


def test_the_largest_motion_with_the_right_label_is_shown():
    truth = demo.DemoTruth(
        (hidden(1, "surprise", 2.0), hidden(3, "negative", 2.5), hidden(5, "positive", 3.0)),
        *((), 30.0, 180),
    )
    events = [found(1, "surprise"), found(3, "negative"), found(5, "negative")]
    assert pictures.choose(truth, events).event is events[1]


def test_nothing_is_shown_if_no_label_is_right():
    truth = demo.DemoTruth((hidden(1, "positive", 2.0),), (), 30.0, 60)
    with pytest.raises(InputError, match="right label"):
        pictures.choose(truth, [found(1, "negative")])


def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InputError, match="overlay"):
        pictures._write(file / "overlay.png", b"")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    missing = {link for link in files_named_in(page) if not (page.parent / link).exists()}
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_tools_exist(page):
    named = set(
        re.findall(
            r"(?<![\w/])(?:tools|tests|models|examples|realtime_mer)/[\w/]+\.py\b",
            page.read_text("utf-8"),
        )
    )
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_picture_of_the_command_is_shown():
    shown = {link for page in PAGES for link in files_named_in(page)}
    names = {Path(link).name for link in shown}
    assert {"overlay.png", "demo.gif", "terminal.svg", "page.png"} <= names


def options_of_the_program() -> set[str]:
    return {
        option
        for action in parser("run.py")._actions
        for option in action.option_strings
        if option.startswith("--")
    }


def test_the_page_on_running_names_the_options_of_the_program_and_no_other():
    text = (ROOT / "docs/running.md").read_text("utf-8")
    # Commands of their own are those of pip and others.
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) == options_of_the_program()


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_in_the_pages_imports_what_exists(page):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        imports = [n for n in ast.parse(block).body if isinstance(n, ast.Import | ast.ImportFrom)]
        for node in imports:
            exec(compile(ast.Module([node], []), page, "exec"), {})


def test_the_readme_has_one_test_command_and_one_that_runs_the_demo():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len([line for line in lines if re.search(r"^python3 -m venv .* -m pytest$", line)]) == 1
    demos = [line for line in lines if re.search(r"^python3 -m venv .*run\.py --demo$", line)]
    assert len(demos) == 1
    assert len([line for line in lines if line.startswith("apt-get install ")]) == 1


def test_the_readme_lists_what_the_demo_hides():
    text = (ROOT / "README.md").read_text("utf-8")
    for event in demo._plan(np.random.default_rng(7)).events:
        units = "+".join(event.action_units)
        times = f"{event.interval.onset_s:.2f}-{event.interval.offset_s:.2f}"
        assert re.search(rf"│ {event.label} +│ {re.escape(units)} +│ {times} ", text)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 750


def test_examples_in_the_page_on_the_log_fit_the_schema():
    text = (ROOT / "docs/log.md").read_text("utf-8")
    records = [json.loads(line) for line in io.StringIO(text) if line.startswith('{"type"')]
    assert {record["type"] for record in records} == {
        kind["$ref"].rpartition("/")[2] for kind in schema()["oneOf"]
    }
    for record in records:
        jsonschema.validate(record, schema())


def test_the_page_on_the_log_describes_every_field():
    text = (ROOT / "docs/log.md").read_text("utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    for kind in schema()["oneOf"]:
        name = kind["$ref"].rpartition("/")[2]
        fields = set(schema()["$defs"][name]["properties"]) - {"type"}
        table = "".join(line for line in sections[name].splitlines() if line.startswith("| `"))
        assert {field for field in fields if f"`{field}`" not in table} == set()
