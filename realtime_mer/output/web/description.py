"""The API in words for programs: OpenAPI of its pages, AsyncAPI of its messages, one schema."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from realtime_mer import __version__
from realtime_mer.output.log import schema
from realtime_mer.output.web.commands import SHOWN
from realtime_mer.output.web.messages import VERSION
from realtime_mer.results import LONGEST_MARK, PARTS

EVENTS_AT_ONCE = 1000
"""Records of one answer of `/api/v1/events`."""

_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_OR_NULL = {"type": ["number", "null"]}
_TRIPLE = {"type": ["array", "null"], "items": _NUMBER, "minItems": 3, "maxItems": 3}
_PARTS = {"type": ["array", "null"], "items": {"enum": list(PARTS)}}


def _object(
    properties: Mapping[str, Any], optional: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "properties": {**properties, **(optional or {})},
    }


def _message(kind: str, what: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": what} | _object({"type": {"const": kind}, **properties})


def _log(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_FACE = _object(
    {
        "face": _COUNT,
        "score": {"description": "Of the spotter; from threshold on it reports.", **_OR_NULL},
        "threshold": _NUMBER,
        "quality": {"description": "How well the face can be read, 0 to 1.", **_OR_NULL},
        "limits": {
            "description": "The limit of detection of upper, middle and lower face, pixels of the "
            "224 px face; null if it is not known.",
            **_TRIPLE,
        },
        "readable": {"description": "The parts that can be read.", **_PARTS},
    },
    {
        "blink": {"description": "How closed the more closed eye is, 0 to 1.", **_OR_NULL},
        "regions": {
            "description": "How far each region of the face moved (x, y) within the last 0.2 s, "
            "without the head, pixels of the 224 px face.",
            "type": "object",
            "additionalProperties": {
                "type": "array",
                "items": _OR_NULL,
                "minItems": 2,
                "maxItems": 2,
            },
        },
    },
)
_FACE_OF_FRAME = copy.deepcopy(_FACE)
_FACE_OF_FRAME["required"] += ["nuisances", "box", "pose_deg"]
_FACE_OF_FRAME["properties"] |= {
    "nuisances": {
        "description": 'What makes motion hard to read now, such as "blink" or "speech".',
        "type": "array",
        "items": _TEXT,
    },
    "box": {
        "description": "Left, top, width and height in pixels of the frame.",
        "type": "array",
        "items": _OR_NULL,
        "minItems": 4,
        "maxItems": 4,
    },
    "pose_deg": {
        "description": "Yaw (to the picture's right), pitch (up) and roll (clockwise), degrees; "
        "null if it is not known.",
        **_TRIPLE,
    },
}
_CAMERA = {"description": "Which of several sources, from 0 in their order.", **_COUNT}

SCHEMAS: dict[str, dict[str, Any]] = {
    "hello": _message(
        "hello",
        "The first message.",
        {
            "version": {"const": VERSION},
            "run": {"description": "Other for each session.", **_TEXT},
            "session": _log("session"),
            "audience": {"description": "Who can see the page, a sentence.", **_TEXT},
            "names": {
                "description": "Short names of several sources, in their order.",
                "type": "array",
                "items": _TEXT,
            },
            "may_control": {"description": "Whether commands are obeyed.", "type": "boolean"},
            "last": {
                "description": "Number of the newest record: up to it, records are past.",
                **_COUNT,
            },
        },
    ),
    "record_message": _message(
        "record",
        "A record of the log.",
        {
            "n": {"description": "Its number, from 1.", "type": "integer", "minimum": 1},
            "record": _log("record"),
        },
    ),
    "status_message": _message(
        "status",
        "How the session is, twice a second.",
        {
            "time_s": _NUMBER,
            "camera": {
                "description": "The source that time, rates, latency and faces are of: of several, "
                "the first one that gives frames.",
                **_COUNT,
            },
            "frame": _COUNT,
            "fps": {"description": "Frames analysed a second.", **_OR_NULL},
            "latency_ms": {"description": "From capture to analysis.", **_OR_NULL},
            "dropped": {"description": "Frames that were not analysed so far.", **_COUNT},
            "source_fps": {"description": "Frames a second of the source.", **_OR_NULL},
            "sensitivity": {"description": "False reports a minute to expect.", **_OR_NULL},
            "alerts": {
                "description": "What is wrong, a few words each.",
                "type": "array",
                "items": _TEXT,
            },
            "is_away": {"description": "No source sends anything now.", "type": "boolean"},
            "faces": {"type": "array", "items": {"type": "object"}},
            "events": {"description": "Micro-expressions so far.", **_COUNT},
            "age_s": {"description": "Seconds since the newest analysis.", **_NUMBER},
        },
    ),
    "waiting": _message("waiting", "In place of a status before the first frame.", {}),
    "values": _message(
        "values",
        "What is measured now, 10 times a second at most; a newer one replaces one that waits.",
        {"time_s": _NUMBER, "camera": _CAMERA, "faces": {"type": "array", "items": _FACE}},
    ),
    "thumbnail": _message(
        "thumbnail",
        "What a micro-expression looked like, after its record; with pictures only.",
        {
            "n": {"description": "Number of the record.", **_COUNT},
            "onset": {
                "description": "The face at the onset, 224 px, JPEG.",
                "contentEncoding": "base64",
                **_TEXT,
            },
            "apex": {
                "description": "The same at the apex.",
                "contentEncoding": "base64",
                **_TEXT,
            },
            "arrows": {
                "description": "Start and displacement (x, y, dx, dy) of arrows to draw for the "
                "motion between them, in pixels of the 224 px face; 22 times as long as the "
                "motion, at most 45 px.",
                "type": "array",
                "items": {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4},
            },
        },
    ),
    "controlled": _message(
        "controlled", "What a viewer's command has changed, to all viewers.", {"text": _TEXT}
    ),
    "end": _message("end", "The session is over.", {"summary": _log("summary")}),
    "frame": _message(
        "frame",
        "What one frame says.",
        {
            "frame": {"description": "Its number in the source.", **_COUNT},
            "time_s": {"description": "Seconds of the source's clock.", **_NUMBER},
            "camera": _CAMERA,
            "captured_monotonic_s": {
                "description": "When it was captured (of a recording: read), on the machine's "
                "monotonic clock (Python's time.monotonic()), seconds.",
                **_NUMBER,
            },
            "latency_ms": _OR_NULL,
            "faces": {"type": "array", "items": _FACE_OF_FRAME},
            "dropped": {
                "description": "Analysed frames since the line before of which there is no line, "
                "because the receiver was too slow.",
                **_COUNT,
            },
        },
    ),
    "numbered": _object({"n": _COUNT, "record": _log("record")}),
    "events": _object(
        {
            "run": {"description": "As in hello.", **_TEXT},
            "records": {"type": "array", "items": _log("numbered")},
            "last": {"description": "The number to ask for next, as after.", **_COUNT},
            "more": {"description": "Whether there are more already.", "type": "boolean"},
            "missing": {
                "description": "Records after the one asked for that are no longer kept.",
                **_COUNT,
            },
        }
    ),
    "sensitivity": _object({"command": {"const": "sensitivity"}, "steps": {"enum": [1, -1]}}),
    "mark_command": _object(
        {"command": {"const": "mark"}, "text": {"type": "string", "maxLength": LONGEST_MARK}}
    ),
}
"""Of every message and answer, beside the log's records."""

_FROM_SERVER = (
    *("hello", "record_message", "status_message", "waiting", "values", "thumbnail"),
    *("controlled", "end"),
)
_FROM_VIEWER = ("sensitivity", "mark_command")


def schemas() -> dict[str, Any]:
    """All schemas by name: those of the log's records, and of messages and answers."""
    log = schema()
    found = {name: _moved(value) for name, value in log["$defs"].items()}
    found["record"] = {
        "description": "A record of the log.",
        "oneOf": [_moved(part) for part in log["oneOf"]],
    }
    return found | SCHEMAS


def _moved(value: Any) -> Any:  # noqa: ANN401
    """A piece of the log's schema, whose references lead to `#/components/schemas`."""
    if isinstance(value, dict):
        return {
            key: item.replace("#/$defs/", "#/components/schemas/")
            if key == "$ref" and isinstance(item, str)
            else _moved(item)
            for key, item in value.items()
        }
    return [_moved(item) for item in value] if isinstance(value, list) else value


def openapi() -> dict[str, Any]:
    """The pages, as OpenAPI 3.1."""

    def page(summary: str, kind: str, content: Mapping[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401
        answers = {"200": {"description": summary, "content": {kind: {"schema": content}}}}
        refused = {"403": {"description": "The address or the origin is not right."}}
        return {"get": {"summary": summary, "responses": answers | refused, **more}}

    lines = "application/x-ndjson"
    after = {
        "name": "after",
        "in": "query",
        "description": "Number of the last record that is known already.",
        "schema": {"type": "integer", "minimum": 0, "default": 0},
    }
    kind = {
        "name": "type",
        "in": "query",
        "description": "Only records of this type.",
        "schema": {"type": "string"},
    }
    full = {"503": {"description": "All places are taken; Retry-After says when to ask again."}}
    paths = {
        "/api/v1/events": page(
            f"Records of the log so far, {EVENTS_AT_ONCE} at once.",
            "application/json",
            _log("events"),
            parameters=[after, kind],
        ),
        "/api/v1/live": page(
            "The session's record, its records from now on, and its summary, a line each.",
            lines,
            _log("record"),
        ),
        "/api/v1/frames": page(
            "A line for each analysed frame from now on; a receiver that is too slow misses some.",
            lines,
            _log("frame"),
        ),
        "/log.jsonl": page("The session's log so far, to keep.", lines, _log("record")),
        "/metrics": page("Figures for Prometheus.", "text/plain", _TEXT),
        "/api/v1/openapi.json": page("This text.", "application/json", {"type": "object"}),
        "/api/v1/asyncapi.json": page(
            "The messages of the WebSocket /live, as AsyncAPI.",
            "application/json",
            {"type": "object"},
        ),
        "/api/v1/schema.json": page(
            "The JSON Schema of a line of the log.", "application/schema+json", {"type": "object"}
        ),
    }
    for path in ("/api/v1/live", "/api/v1/frames", "/log.jsonl"):
        paths[path]["get"]["responses"] |= full
    paths["/api/v1/events"]["get"]["responses"]["400"] = {"description": "No such number."}
    missing = {"501": {"description": "prometheus-client is not installed."}}
    paths["/metrics"]["get"]["responses"] |= missing
    return {
        "openapi": "3.1.0",
        "info": _info("What a running session tells to programs, over HTTP."),
        # Seen from this text: the address may begin with a token.
        "servers": [{"url": "../.."}],
        "paths": paths,
        "components": {"schemas": schemas()},
    }


def asyncapi() -> dict[str, Any]:
    """The messages of the WebSocket, as AsyncAPI 3."""
    messages = {
        name: {"payload": _log(name), "contentType": "application/json"}
        for name in (*_FROM_SERVER, *_FROM_VIEWER)
    }
    messages["picture"] = {
        "contentType": "image/jpeg",
        "summary": "The newest picture, binary; none with ?pictures=0. At most two are sent that "
        f'have not been confirmed by the text "{SHOWN}".',
        "payload": {"type": "string", "contentMediaType": "image/jpeg"},
    }
    messages["shown"] = {
        "contentType": "text/plain",
        "summary": "A picture has been shown.",
        "payload": {"const": SHOWN},
    }

    def references(*names: str) -> list[dict[str, str]]:
        return [{"$ref": f"#/channels/live/messages/{name}"} for name in names]

    return {
        "asyncapi": "3.0.0",
        "info": _info(
            "What a running session tells to pages and programs, over a WebSocket. The address "
            "may begin with a token."
        ),
        "channels": {
            "live": {
                "address": "/live",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"query": _object({}, {"pictures": {"enum": ["0", "1"]}})}},
            }
        },
        "operations": {
            "tell": {
                "action": "send",
                "channel": {"$ref": "#/channels/live"},
                "messages": references(*_FROM_SERVER, "picture"),
            },
            "listen": {
                "action": "receive",
                "channel": {"$ref": "#/channels/live"},
                "summary": "Commands are obeyed with --control only; without it, they end the "
                "connection.",
                "messages": references(*_FROM_VIEWER, "shown"),
            },
        },
        "components": {"messages": messages, "schemas": schemas()},
    }


def _info(what: str) -> dict[str, str]:
    return {
        "title": "realtime_mer",
        "version": str(VERSION),
        "description": what,
        "x-program": __version__,
    }
