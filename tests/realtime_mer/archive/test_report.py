"""Reports: one file that loads nothing, says what was found, and escapes what it shows."""

import base64
import hashlib
import io
import json
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from realtime_mer import cli
from realtime_mer.archive.report import charts, page, write_report
from realtime_mer.archive.report.figures import Face, rate, share, video_figures
from realtime_mer.archive.results_folder import ResultsFolder
from realtime_mer.errors import InputError
from tests.realtime_mer.review.words import write_reviews
from tests.results import EVENTS, make_results

EVIL = '<img src=x onerror="alert(1)">'


class Page(HTMLParser):
    """The elements that a browser would see, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def text_of(html: str) -> str:
    """The page's text in its order."""
    html = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.S)
    html = re.sub(r"</(td|th|dt|dd)>", " ", html)
    return " ".join(re.sub(r"<[^>]*>", "", html).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> ResultsFolder:
    folder = make_results(tmp_path_factory.mktemp("report") / "results")
    for video in folder.done():
        write_report(folder, video.key)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def reports(folder) -> dict[str, str]:
    """All reports by the names of their videos, that of the archive by ""."""
    pages = {Path(v.source).name: v.report.read_text("utf-8") for v in folder.done()}
    return {**pages, "": folder.report.read_text("utf-8")}


def change(folder, tmp_path, change_log=None, change_entry=None) -> ResultsFolder:
    """A copy of the folder without clips, whose first video is changed."""
    copy = ResultsFolder(tmp_path / "copy")
    manifest = folder.manifest
    for video in folder.done():
        place = copy.videos / video.key
        place.mkdir(parents=True)
        records = video.records()
        if change_log and video.key == manifest["videos"][0]["key"]:
            records = change_log(records)
        (place / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    if change_entry:
        change_entry(manifest["videos"][0])
    copy.manifest_path.write_text(json.dumps(manifest))
    return copy


def first_report(folder: ResultsFolder) -> str:
    return write_report(folder, folder.manifest["videos"][0]["key"]).read_text("utf-8")


def test_nothing_is_loaded_from_elsewhere(folder, reports):
    for html in reports.values():
        for _, attributes in Page(html).elements:
            for name in ("src", "srcset", "href", "data", "action", "poster"):
                link = attributes.get(name) or "#"
                assert link.startswith(("data:image/", "#", "videos/")), link
        assert not re.search(r"url\((?!#)|@import|xlink", html)


def test_the_policy_allows_only_the_page_s_own_style_and_script(reports):
    for html in reports.values():
        (policy,) = [
            meta["content"]
            for meta in Page(html).all("meta")
            if meta.get("http-equiv") == "Content-Security-Policy"
        ]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for tag in ("style", "script"):
            (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
        # It would not allow these either.
        for _, attributes in Page(html).elements:
            assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_readers_of_the_page_find_their_way(reports):
    for html in reports.values():
        parsed = Page(html)
        levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
        assert levels.count(1) == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))
        assert all(image.get("alt") for image in parsed.all("img"))
        assert all(head.get("scope") in ("col", "row") for head in parsed.all("th"))
        charts_ = [svg for svg in parsed.all("svg") if svg.get("aria-hidden") != "true"]
        assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts_)
        names = [a["id"] for _, a in parsed.elements if a.get("id")]
        assert len(names) == len(set(names))


def test_a_video_s_report_tells_what_was_watched_and_found(reports):
    text = text_of(reports["first talk.mp4"])
    assert "For 2.5 s a face was followed" in text
    assert "Upper face brows and lids 2.5 s 100 % 0.8 px" in text
    assert "Lower face lips and chin 0.0 s 0 % 2.0 px" in text
    assert "negative 1 33 % (6 % to 79 %)" in text
    # Less than a readable minute tells no rate.
    assert "Events per readable minute – less than a readable minute" in text
    assert "1 time in which a face was not followed" in text
    assert "0:03.5 0:04.2 0 face lost" in text
    assert "event 2 0:03.00 300 ms 1 negative 55 % 0.45" in text
    # What the settings were: of the manifest, also nested ones.
    assert "sensitivity 1.0" in text
    assert "weights: classifier " + "c" * 64 in text


def test_the_charts_hold_their_text_as_text(reports):
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", reports["first talk.mp4"])
    assert {"face 0", "face 1", "upper", "lower", "negative", "0:02"} <= set(texts)


def test_events_have_stills_and_a_loop_in_two_speeds(reports):
    images = Page(reports["first talk.mp4"]).all("img")
    loops = [i for i in images if i["src"].startswith("data:image/avif;base64,")]
    assert len(loops) == len(EVENTS["first talk.mp4"])
    assert sum("at the apex of event" in image["alt"] for image in images) == len(loops)
    loop = Image.open(io.BytesIO(base64.b64decode(loops[0]["src"].partition(",")[2])))
    lengths = []
    for index in range(loop.n_frames):
        loop.seek(index)
        loop.load()
        lengths.append(loop.info["duration"])
    half = len(lengths) // 2
    assert [5 * length for length in lengths[:half]] == lengths[half:]
    # 0.3 s before the onset, 0.3 s of event, 0.3 s after the offset.
    assert sum(lengths[:half]) == pytest.approx(900, abs=70)


def test_an_event_without_a_clip_is_listed_without_pictures(reports):
    html = reports["zweites Gespräch.mp4"]
    assert "1 event has no clip" in text_of(html)
    assert "event 1 0:02.00" in text_of(html)
    assert not [i for i in Page(html).all("img") if "at the apex" in i["alt"]]


def test_a_large_report_says_which_pictures_it_leaves_out(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_PICTURES_BYTES", 1)
    key = folder.manifest["videos"][0]["key"]
    html = write_report(folder, key, tmp_path / "small.html").read_text("utf-8")
    assert "those of 3 more are left out" in text_of(html)
    assert "data:image/avif" not in html


def test_the_archive_s_report_lists_every_video_and_names_failures(folder, reports):
    text = text_of(reports[""])
    assert "3 videos in results" in text
    assert "broken.avi broken.avi is no video that can be read 1" in text
    assert "first talk.mp4 done 6.0 s 89 % 100 % 3 –" in text
    assert "broken.avi failed – – – – –" in text
    assert "positive 1 25 % (5 % to 70 %)" in text
    assert "For 5.0 s a face was followed" in text
    links = [a["href"] for a in Page(reports[""]).all("a")]
    assert len(links) == 2
    assert "%C3%A4" in links[1]


def test_a_manifest_need_not_say_what_made_the_results(folder, tmp_path):
    copy = change(folder, tmp_path)
    manifest = {key: v for key, v in copy.manifest.items() if key not in ("program", "settings")}
    copy.manifest_path.write_text(json.dumps(manifest))
    assert "program realtime_mer" in text_of(first_report(copy))


def test_only_reports_that_exist_are_linked(folder, tmp_path):
    copy = change(folder, tmp_path)
    assert Page(write_report(copy).read_text("utf-8")).all("a") == []


def test_what_comes_from_files_is_text(folder, tmp_path):
    def evil(records):
        for record in records:
            if record["type"] == "micro_expression":
                record |= {"label": EVIL, "regions": [{"name": EVIL}]}
                record["action_units"] = [{"name": EVIL, "side": EVIL}]
            elif record["type"] == "session":
                record |= {"labels": [EVIL, "$\\frac$"], "model": EVIL, "provider": EVIL}
            elif record["type"] in ("gap", "summary"):
                record["reason"] = EVIL
        return records

    copy = change(folder, tmp_path, evil, lambda e: e.update(source=f"talks/{EVIL}.mp4"))
    manifest = copy.manifest
    manifest |= {"settings": {EVIL: EVIL}, "program": {"name": EVIL}}
    manifest["videos"][-1] |= {"reason": EVIL, "source": EVIL}
    copy.manifest_path.write_text(json.dumps(manifest))
    for html in (first_report(copy), write_report(copy).read_text("utf-8")):
        assert html.count("&lt;img src=x onerror=") >= 4
        assert "onerror" not in {name for _, a in Page(html).elements for name in a}
        assert EVIL not in html


NAMES = (
    "price $5, $\\foo$.mp4",  # Matplotlib would take it for a formula
    "面接 😀.mp4",  # its own font lacks them
    "half \ud83d.mp4",  # no UTF-8
    "bell\x07 \x1b[2J.mp4",
    "x" * 300 + ".mp4",
)


def test_any_name_can_be_shown(folder, tmp_path):
    def long(records):
        for record in records:
            if record["type"] == "summary":
                # More than a minute: the name stands in a chart, too.
                record |= {"any_readable_s": 120.0, "watched_s": 120.0}
        return records

    copy = change(folder, tmp_path, long)
    manifest = copy.manifest
    first = manifest["videos"][0]
    manifest["videos"] = [{**first, "source": name} for name in ("".join(NAMES), *NAMES)]
    copy.manifest_path.write_text(json.dumps(manifest))
    for html in (first_report(copy), write_report(copy).read_text("utf-8")):
        assert all(name[:4].strip() in html for name in NAMES)
        assert not re.search("[\x00-\x08\x0b-\x1f]", html)


def test_addresses_are_shown_without_credentials(folder, tmp_path):
    source = "rtsp://admin:secret@10.0.0.2/live"
    copy = change(folder, tmp_path, None, lambda e: e.update(source=source))
    for html in (first_report(copy), write_report(copy).read_text("utf-8")):
        assert "10.0.0.2" in html
        assert "secret" not in html


def test_a_session_that_was_killed_is_told_and_counted(folder, tmp_path):
    copy = change(folder, tmp_path, lambda rs: [r for r in rs if r["type"] != "summary"])
    text = text_of(first_report(copy))
    assert "It ended early and its log has no summary" in text
    assert "For 2.5 s a face was followed" in text
    assert "Upper face brows and lids 2.5 s" in text
    assert "1 only in part" in (text := text_of(write_report(copy).read_text("utf-8")))
    assert "first talk.mp4 done ended early" in text
    assert "zweites Gespräch.mp4 done 6.0 s" in text


def ended(reason, **changes):
    """Changes a log's summary."""
    return lambda records: [
        {**r, "reason": reason, **changes} if r["type"] == "summary" else r for r in records
    ]


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_file_of_which_little_could_be_read_is_told_once(folder, tmp_path, is_noted):
    """A worker notes it; a session's entry lacks that note."""
    note = "a.mp4 ended after 3 of 180 declared frames: the file is cut short"
    noted = {"notes": [note, "3 damaged pictures <b>"], "in_part": True}
    copy = change(
        folder,
        tmp_path,
        ended("end of source", frames_read=3),
        lambda entry: entry.update(noted if is_noted else {}),
    )
    told = (note.capitalize(), "Only 0.1 s of 6.0 s could be read: the file is cut short")
    for html in (first_report(copy), write_report(copy).read_text("utf-8")):
        assert [sentence in text_of(html) for sentence in told] == [is_noted, not is_noted]
        assert ("3 damaged pictures &lt;b&gt;." in html) == is_noted
    assert "first talk.mp4 done read in part" in text_of(write_report(copy).read_text("utf-8"))


def test_seven_labels_differ_in_colour_and_in_shape_and_more_in_one_of_them(folder, tmp_path):
    labels = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

    def relabel(records):
        places = iter([0, 8])
        for record in records:
            if record["type"] == "session":
                record |= {"labels": labels}
            elif record["type"] == "micro_expression":
                record |= {"label": labels[at] if (at := next(places, None)) is not None else "?"}
        return records

    html = first_report(change(folder, tmp_path, relabel))
    legend = re.search(r'<ul class="legend">(.*?)</ul>', html, re.S)[1]
    symbol = r'<svg class="symbol fill-([\w-]+)"[^>]*>\s*(<.*?>)</.*?>\s*</svg>\s*(\S+)\s*</li>'
    looks = {name: (colour, shape) for colour, shape, name in re.findall(symbol, legend)}
    assert [*looks][:10] == [*labels, "?"]
    alone = [looks[name] for name in (*labels[:7], "?")]
    for seen in zip(*alone, strict=True):
        assert len(set(seen)) == 8
    assert len({looks[name] for name in (*labels, "?")}) == 10
    # The charts have the colours of the legend, in the timeline and beside the table.
    for chart in re.findall(r'<svg [^>]*aria-label="(?:Timeline|Share).*?</svg>', html, re.S):
        shown = set(re.findall(r"fill-(label-\w+)", chart))
        assert {looks[name][0] for name in ("one", "nine", "?")} <= shown


def test_nothing_is_told_of_a_header_that_is_a_little_wrong(folder, tmp_path):
    copy = change(folder, tmp_path, ended("end of source", frames_read=178))
    assert "could be read:" not in text_of(first_report(copy))
    assert "To be read with care" not in text_of(write_report(copy).read_text("utf-8"))


@pytest.mark.parametrize(
    ("live", "reason", "early"),
    [
        # That is how the session of a camera ends.
        (True, "stopped by user", False),
        (True, "source lost", True),
        (False, "stopped by user", True),
    ],
)
def test_a_session_that_ended_early_is_told(folder, tmp_path, live, reason, early):
    copy = change(
        folder,
        tmp_path,
        ended(reason, frames_read=30),
        lambda entry: entry.update(live=live),
    )
    told = f"The analysis did not reach the end: {reason}."
    assert (told in text_of(first_report(copy))) == early
    text = text_of(write_report(copy).read_text("utf-8"))
    assert ("first talk.mp4 done ended early" in text) == early


@pytest.mark.parametrize(
    "damage",
    [
        {"onset_s": "soon"},
        {"face": None},
        {"intensity_px": float("nan")},
        {"offset_s": 1e300},
        {"regions": 5},
        {"type": "gap", "start_s": 1.0},
        {"type": "gap", "start_s": 1.0, "end_s": 2.0},
    ],
)
def test_a_damaged_log_costs_its_own_report_only(folder, tmp_path, damage):
    def damaged(records):
        return [{**r, **damage} if r["type"] == "micro_expression" else r for r in records]

    copy = change(folder, tmp_path, damaged)
    with pytest.raises(InputError, match="is no event log of this program"):
        first_report(copy)
    text = text_of(write_report(copy).read_text("utf-8"))
    assert "first talk.mp4 failed" in text
    assert "zweites Gespräch.mp4 done" in text


def test_a_video_in_which_nothing_was_found(folder, tmp_path):
    copy = change(folder, tmp_path, lambda rs: [r for r in rs if r["type"] == "session"])
    text = text_of(first_report(copy))
    assert "No micro-expression was reported" in text
    assert "It is not known how much could be read" in text


def test_an_archive_of_nothing(tmp_path):
    folder = ResultsFolder(tmp_path)
    folder.manifest_path.write_text(json.dumps({"format": 1, "videos": []}))
    assert "0 videos" in text_of(write_report(folder).read_text("utf-8"))


def test_shares_have_wilson_s_interval():
    # Newcombe, Statistics in Medicine 17 (1998), table I.
    found = share(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert share(0, 20).high == pytest.approx(0.1611, abs=1e-4)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # Exact limits of a Poisson count, as tables give them.
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.390)],
)
def test_rates_have_the_exact_poisson_interval(count, low, high):
    found = rate(count, 2.0)
    assert found.value == count / 2
    assert (found.low, found.high) == pytest.approx((low / 2, high / 2), abs=1e-3)


def test_the_usual_limit_is_the_median_over_time():
    spans = [
        {
            "type": "visibility",
            "face": 0,
            "start_s": start,
            "end_s": end,
            "limits_px": dict.fromkeys(("upper face", "middle face", "lower face"), limit),
            "readable": [],
        }
        for start, end, limit in ((0, 1, 0.5), (1, 2, 0.7), (2, 9, 2.4))
    ]
    assert video_figures(spans).limits_px == (2.4, 2.4, 2.4)


def test_a_timeline_of_hours_is_no_larger_than_one_of_minutes():
    spans = [
        {"start_s": 4.0 * i, "end_s": 4.0 * i + 3, "readable": ["upper face"]} for i in range(2000)
    ]
    gaps = [{"start_s": 4.0 * i + 3, "end_s": 4.0 * i + 4} for i in range(2000)]
    chart = charts.timeline([Face(0, spans, gaps)], ["negative"], 8000.0, "two hours")
    assert len(chart) < 60_000
    assert "2:00:00" in chart


def test_each_session_of_a_log_counts_also_one_that_was_killed(folder):
    records = next(folder.done()).records()
    killed = [r for r in records if r["type"] != "summary"]
    one = video_figures(records).watched
    for log in (records + killed, killed + records):
        watched = video_figures(log).watched
        assert watched.watched_s == 2 * one.watched_s == 5.0
        assert watched.any_s == 2 * one.any_s
        assert watched.frames == one.frames
        assert watched.duration_s > one.duration_s
    assert video_figures(records + killed).reason is None
    assert video_figures(killed + records).reason == "end of source"


def test_the_command_writes_all_reports(folder, tmp_path, capsys):
    copy = change(folder, tmp_path)
    assert cli.main(["report", str(copy.path)]) == 0
    assert capsys.readouterr().out.strip() == str(copy.report)
    assert copy.report.is_file()
    assert all(video.report.is_file() for video in copy.done())
    # Written after the others, it links to them.
    assert len(Page(copy.report.read_text("utf-8")).all("a")) == 2


def test_the_command_writes_one_report_where_it_is_told(folder, tmp_path):
    out = tmp_path / "one.html"
    key = folder.manifest["videos"][1]["key"]
    assert cli.main(["report", str(folder.path), "--video", key, "--out", str(out)]) == 0
    assert "zweites Gespräch.mp4" in out.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--video", "nobody"], "has no video nobody"),
        (["--video", "BROKEN"], "has no results yet"),
        (["--out", "nowhere/report.html"], "does not exist"),
    ],
)
def test_a_wrong_word_is_answered_with_a_remedy(folder, capsys, arguments, says):
    broken = folder.manifest["videos"][-1]["key"]
    arguments = [broken if word == "BROKEN" else word for word in arguments]
    assert cli.main(["report", str(folder.path), *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_folder_without_results_is_named(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "is no results folder" in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_extra(folder, monkeypatch):
    for name in [n for n in sys.modules if n.startswith("realtime_mer.archive.report.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"jinja2: pip install realtime-mer\[archive\]"):
        write_report(folder)


def test_what_reviewers_say_is_told(folder, tmp_path, reports):
    assert not any("Reviewed:" in html for html in reports.values())
    copy = change(folder, tmp_path)
    write_reviews(copy)
    # Of two that were decided one is true.
    told = (
        "Reviewed: 3 of {} reports have a verdict: 1 true, 1 false, 1 disputed. "
        "Precision 50 % (9 % to 91 %, Wilson). Reviewers added 1 missed event."
    )
    assert told.format(3) in text_of(first_report(copy))
    assert told.format(4) in text_of(write_report(copy).read_text("utf-8"))
