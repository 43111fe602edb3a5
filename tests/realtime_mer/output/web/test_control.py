"""What viewers may change: with --control only, and never by what no page would send."""

import asyncio
import json

import aiohttp
import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.web import PageControls
from realtime_mer.output.web.commands import ChangeSensitivity, MakeMark, Refused, command_of
from tests.realtime_mer.output.web.viewers import (
    PATIENCE_S,
    Flat,
    analysis,
    feeding,
    is_type,
    looking,
    messages_until,
    serving,
    wait_for,
)

MORE = {"command": "sensitivity", "steps": 1}


class Controls:
    def __init__(self):
        self.done = []
        self.controls = PageControls(self.change, self.mark)

    def change(self, steps):
        self.done.append(steps)
        return f"sensitivity: {len(self.done)}"

    def mark(self, text):
        if text == "too late":
            raise InputError("not marked: the session has ended")
        self.done.append(text)
        return f"marked: {text}"


def test_commands_are_obeyed_and_all_viewers_learn_what_they_changed():
    controls = Controls()

    async def look(view):
        async with looking(view, "?pictures=0") as one, looking(view, "?pictures=0") as other:
            with feeding(view):
                await one.send_str(json.dumps(MORE))
                await one.send_str(json.dumps({"command": "mark", "text": " smiled \n"}))
                await other.send_str(json.dumps({"command": "mark", "text": "too late"}))
                told = []
                for live in (one, other):
                    for _ in range(3):
                        message = (await messages_until(live, is_type("controlled")))[-1]
                        told.append(message["text"])
        return told

    with serving(Flat(), controls=controls.controls) as view:
        told = asyncio.run(look(view))
    texts = {"sensitivity: 1", "marked: smiled", "not marked: the session has ended"}
    assert set(told[:3]) == set(told[3:]) == texts
    assert controls.done == [1, "smiled"]


def test_hello_says_whether_commands_are_obeyed():
    async def hello(view):
        async with looking(view) as live:
            return (await messages_until(live, is_type("hello")))[-1]

    with serving(controls=Controls().controls) as view:
        message = asyncio.run(hello(view))
        assert message["may_control"] is True
        assert "control" in message["audience"]
    with serving() as view:
        message = asyncio.run(hello(view))
        assert (message["may_control"], message["version"]) == (False, 1)
        assert "control" not in message["audience"]


async def close_code(view, *sent):
    async with looking(view, "?pictures=0") as live, asyncio.timeout(PATIENCE_S):
        await messages_until(live, is_type("hello"))
        for message in sent:
            if isinstance(message, bytes):
                await live.send_bytes(message)
            else:
                await live.send_str(message)
        async for _ in live:
            pass
        return live.close_code


def test_without_the_option_a_command_ends_the_connection():
    async def look(view):
        async with looking(view) as other:
            code = await close_code(view, json.dumps(MORE))
            view.update(analysis(1))
            await messages_until(other, is_type("status"))
            return code

    with serving(Flat()) as view:
        assert asyncio.run(look(view)) == aiohttp.WSCloseCode.POLICY_VIOLATION
        wait_for(lambda: not view._server._viewers)
        assert view._server.take_command() is None


BAD = {
    "no JSON": ("shown?", 1007),
    "a list": ("[]", 1008),
    "deep JSON": ("[" * 1000, 1007),
    "another command": ('{"command": "quit"}', 1008),
    "a large step": ('{"command": "sensitivity", "steps": 100}', 1008),
    "a step that is true": ('{"command": "sensitivity", "steps": true}', 1008),
    "half a step": ('{"command": "sensitivity", "steps": 1.0}', 1008),
    "more than a command": ('{"command": "sensitivity", "steps": 1, "x": 1}', 1008),
    "a mark without a text": ('{"command": "mark"}', 1008),
    "a mark that is a number": ('{"command": "mark", "text": 1}', 1008),
    "a long mark": (json.dumps({"command": "mark", "text": "x" * 81}), 1008),
    "a huge message": (json.dumps({"command": "mark", "text": "x" * 5000}), 1009),
    "bytes": (b"shown", 1003),
}


@pytest.mark.parametrize(("sent", "code"), BAD.values(), ids=BAD)
def test_what_no_page_sends_ends_the_connection_and_changes_nothing(sent, code):
    controls = Controls()
    with serving(Flat(), controls=controls.controls) as view:
        assert asyncio.run(close_code(view, sent)) == code
        view.update(analysis(1))
        wait_for(lambda: not view._server._viewers)
    assert controls.done == []


def test_a_flood_of_commands_is_obeyed_in_part():
    controls = Controls()

    async def look(view):
        async with looking(view, "?pictures=0") as live:
            with feeding(view):
                for _ in range(200):
                    await live.send_str(json.dumps(MORE))
                await live.send_str(json.dumps(MORE | {"steps": -1}))
                await messages_until(live, is_type("controlled"))

    with serving(Flat(), controls=controls.controls) as view:
        asyncio.run(look(view))
    # Ten a second, and the test may take some seconds.
    assert 1 <= len(controls.done) <= 100


def test_a_mark_of_any_80_characters_fits():
    for text in ("x" * 80, "\N{GRINNING FACE}" * 80):
        sent = json.dumps({"command": "mark", "text": text})
        assert len(sent) <= 1280
        assert command_of(sent) == MakeMark(text)
    assert command_of(json.dumps(MORE)) == ChangeSensitivity(1)
    marked = command_of('{"command": "mark", "text": "a\\u001b[2J\\nb"}')
    assert isinstance(marked, MakeMark)
    assert marked.text.isprintable()
    with pytest.raises(Refused):
        command_of("{}")


def test_another_site_cannot_control():
    async def look(view):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with looking(view, origin="http://evil.example"):
                pass
        return refused.value.status

    with serving(controls=Controls().controls) as view:
        assert asyncio.run(look(view)) == 403
