"""`realtime-mer review`, as people call it."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from realtime_mer.archive.reviews.decisions import DecisionsFile
from realtime_mer.archive.reviews.found import material
from realtime_mer.cli import main
from tests.realtime_mer.review.reviewing import get


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere"], "nowhere is no results folder: it has no manifest.json"),
        (["RESULTS", "--name", "a/b"], "cannot be a reviewer's name"),
        (["RESULTS", "--port", "99999"], "'99999' is no port"),
        ([], "required: DIR"),
    ],
)
def test_what_cannot_be_reviewed_is_told_in_a_line(results, arguments, reason, capsys, monkeypatch):
    monkeypatch.chdir(results.path.parent)
    given = [argument.replace("RESULTS", results.path.name) for argument in arguments]
    try:
        status = main(["review", *given, "--no-browser"])
    except SystemExit as end:
        status = end.code
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line


def test_a_second_page_of_the_same_reviewer_is_refused(results, capsys):
    with DecisionsFile(results.reviews, "ana", material(results)):
        assert main(["review", str(results.path), "--name", "ana", "--no-browser"]) == 2
    assert "ana is reviewing this folder already" in capsys.readouterr().err


def test_ctrl_c_is_the_ordinary_end_and_leaves_the_table(results):
    process = subprocess.Popen(
        [sys.executable, "-m", "realtime_mer", "review", str(results.path), "--name", "ana"]
        + ["--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # In a job of a shell, Ctrl-C may be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        url = re.search(r"http://\S+", process.stdout.readline())[0]
        event = json.loads(get(url + "events")[2])["events"][0]
        thought = {"event": event["id"], "verdict": "true", "onset_s": 1.2, "offset_s": 1.5}
        data = json.dumps(thought).encode()
        assert get(url + "decide", data, Content_Type="application/json")[0] == 200
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, "")
    assert "reviewed events: " in out
    assert "true" in (results.path / "reviewed_events.csv").read_text()
