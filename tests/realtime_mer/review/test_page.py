"""The page in a real browser, by keyboard alone."""

import asyncio
import json

import pytest

from realtime_mer.archive.reviews.decisions import Decisions
from tests.realtime_mer.output.web.test_page import browser, needs_browser, text_of
from tests.realtime_mer.review.reviewing import reviewing


@needs_browser
def test_a_review_by_keyboard_alone(results, tmp_path):
    async def look(review):
        async with browser(tmp_path / "profile") as page:
            await page.resize(390, 844)
            await page.open(review.url)
            await page.wait_for(f"{text_of('now')} !== ''")
            # Nothing is cut off on a phone.
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390
            # The most doubtful first: the second event of the first video, whose score is 0.45.
            assert await page.evaluate(text_of("label")) == "negative"
            # Stop, go to the apex frame by frame, and move the onset by two frames.
            await page.press(" ")
            before = await page.evaluate(text_of("now"))
            await page.press("ArrowRight")
            await page.wait_for(f"{text_of('now')} !== '{before}'")
            await page.press("w", "w")
            await page.wait_for(f"{text_of('onset')}.includes('+67 ms')")
            await page.press("s", "m")
            await page.wait_for(f"{text_of('speed')}.includes('1/2')")
            await page.wait_for(f"{text_of('making')} === ''")
            await page.press("3")
            await page.wait_for(f"{text_of('progress-text')} === '1 of 4 decided'")
            await page.wait_for(f"{text_of('spoken')}.startsWith('true, surprise. Event 2 of 4')")
            await page.press("f")
            await page.wait_for(f"{text_of('progress-text')} === '2 of 4 decided'")
            await page.press("z")
            await page.wait_for(f"{text_of('progress-text')} === '1 of 4 decided'")
            await page.wait_for(f"{text_of('title')} === 'Event 2 of 4'")
            # Faster than the answers come: each key is about the event that its reader means.
            await page.press("u", "t", "a")
            await page.wait_for(f"{text_of('progress-text')}.endsWith('1 added')")
            await page.wait_for(f"{text_of('precision')}.startsWith('2 of 2 decided')")
            # The help opens, and closes with Escape; keys do nothing meanwhile.
            await page.press("h", "f")
            assert await page.evaluate("document.getElementById('help').open")
            shown = "['keys', 'buttons'].filter(id => document.getElementById(id).offsetHeight)"
            assert await page.evaluate(f"{shown}.join()") == "keys"
            # Fingers have no keys: a small phone tells of the buttons, and shows the way out.
            await page("Emulation.setTouchEmulationEnabled", enabled=True)
            await page("Emulation.setDeviceMetricsOverride", width=360, height=640,
                       deviceScaleFactor=1, mobile=True)  # fmt: skip
            await page.wait_for(f"{shown}.join() === 'buttons'")
            close = "document.querySelector('#help button').getBoundingClientRect().bottom"
            assert await page.evaluate(close) <= 640
            await page("Emulation.setTouchEmulationEnabled", enabled=False)
            await page.resize(390, 844)
            await page.press("Escape")
            await page.wait_for("!document.getElementById('help').open")
            # With Tab to the table of sensitivities; what has the focus is always marked.
            name = ""
            for _ in range(60):
                await page.press("Tab")
                outline = "getComputedStyle(document.activeElement).outlineStyle"
                assert await page.evaluate(outline) != "none"
                name = await page.evaluate("document.activeElement.name || ''")
                if name == "sensitivity":
                    break
            assert name == "sensitivity"
            await page.press("ArrowDown")
            await page.wait_for("document.activeElement.value === '2'")
            await page.press("Tab", "Enter")
            await page.wait_for(f"{text_of('chosen')}.includes('--settings')")
            assert page.complaints == []

    with reviewing(results) as review:
        asyncio.run(look(review))
        decisions: Decisions = review._file.decisions
        first = review._events[f"{next(iter(results.done())).key}/2"]
        word = decisions.of(first.id)
        assert (word.verdict, word.label) == ("true", "surprise")
        assert word.onset_s == pytest.approx(first.onset_s + 0.067, abs=0.001)
        said = [getattr(decisions.of(event), "verdict", None) for event in review._events]
        assert said == [None, "true", "unsure", "true"]
        assert len(decisions.added) == 1
    assert json.loads(results.settings_path.read_text()) == {"sensitivity": 2}
