"""Messages and descriptions: each message fits the schema that the API publishes for it."""

import base64
import json
import math

import cv2
import jsonschema
import numpy as np
import pytest

from realtime_mer.output.log import schema
from realtime_mer.output.web import description, messages
from realtime_mer.results import (
    Analysis,
    EventPicture,
    FaceState,
    Gap,
    GapReason,
    Mark,
    SourceStatus,
    StatusChange,
    VisibilitySpan,
)
from realtime_mer.source.frame import Frame
from tests.realtime_mer.output.web.viewers import SESSION, SUMMARY, event


def fits(message, name):
    """Checks a message, as it is sent, against its schema."""
    text = json.dumps({"components": {"schemas": description.schemas()}})
    whole = json.loads(text) | {"$ref": f"#/components/schemas/{name}"}
    jsonschema.Draft202012Validator(whole).validate(json.loads(messages.text_of(message)))


def known_face():
    rng = np.random.default_rng(0)
    blendshapes = np.zeros(52, np.float32)
    blendshapes[9], blendshapes[10] = 0.2, 0.7
    return FaceState(
        3,
        rng.uniform(100, 200, (478, 2)).astype(np.float32),
        1.25,
        nuisances=("blink",),
        motion=np.arange(32, dtype=np.float32).reshape(16, 2) / 10,
        quality=0.5,
        limits=(0.8, 1.25, 3.0),
        depth=rng.uniform(-10, 10, 478).astype(np.float32),
        blendshapes=blendshapes,
    )


def unknown_face():
    return FaceState(0, np.full((478, 2), 100, np.float32), math.nan)


def analysis(*faces, **values):
    return Analysis(
        Frame(7, 0.25, np.zeros((24, 32, 3), np.uint8), 12.5), faces, latency_s=0.0123, **values
    )


def picture():
    flow = np.zeros((28, 28, 2), np.float32)
    flow[8:20, 8:20] = 1.5, -0.5
    onset = np.tile(np.arange(224, dtype=np.uint8), (224, 1))
    return EventPicture(onset, onset.T.copy(), flow)


@pytest.mark.parametrize("faces", [(), (unknown_face(),), (known_face(), unknown_face())])
def test_values_and_frames_fit_their_schemas_whatever_is_known(faces):
    fits(messages.values_message(analysis(*faces)), "values")
    text = messages.text_of(messages.frame_message(analysis(*faces)))
    fits(json.loads(messages.with_dropped(text, 5)), "frame")
    fits(messages.status_message([analysis(*faces)], 2, 0.5), "status_message")


def test_values_are_those_of_the_face():
    (face,) = messages.values_message(analysis(known_face()))["faces"]
    assert (face["face"], face["score"], face["threshold"]) == (3, 1.25, 1.0)
    assert face["limits"] == [0.8, 1.25, 3.0]
    assert face["readable"] == ["upper face", "middle face"]
    assert face["blink"] == 0.7
    assert face["regions"]["inner brow left"] == [0.0, 0.1]
    assert face["regions"]["chin"] == [3.0, 3.1]
    assert len(face["regions"]) == 16


def test_a_frame_names_the_moment_of_its_capture_and_the_frames_that_were_missed():
    message = messages.frame_message(analysis(known_face()))
    line = json.loads(messages.with_dropped(messages.text_of(message), 4))
    assert (line["frame"], line["captured_monotonic_s"]) == (7, 12.5)
    assert (line["latency_ms"], line["dropped"]) == (12.3, 4)
    (face,) = line["faces"]
    assert len(face["pose_deg"]) == 3
    assert face["box"][2] > 0
    assert face["nuisances"] == ["blink"]


def test_a_thumbnail_shows_onset_and_apex_and_where_the_skin_went():
    message = messages.thumbnail_message(4, picture())
    fits(message, "thumbnail")
    for name, wanted in (("onset", picture().onset), ("apex", picture().apex)):
        jpeg = base64.b64decode(message[name], validate=True)
        grey = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
        assert grey.shape == (224, 224)
        assert np.abs(grey.astype(int) - wanted).mean() < 3
    assert message["arrows"]
    for x, y, dx, dy in message["arrows"]:
        assert 0 <= x <= 224
        assert 0 <= y <= 224
        assert dx == pytest.approx(-3 * dy, rel=0.1)
        assert dx > 0


def test_of_several_sources_the_status_has_the_alerts_and_drops_of_all():
    both = [
        analysis(dropped=2, alerts=("too dark",), source="left"),
        analysis(dropped=3, alerts=("picture frozen",), source="right", camera=1),
    ]
    status = messages.status_message(both, 0, 0.1)
    assert status["alerts"] == ["left: too dark", "right: picture frozen"]
    assert status["dropped"] == 5


def test_of_several_sources_the_status_is_that_of_the_first_that_gives_frames():
    gone = analysis(fps=0.0, is_away=True, source="left")
    other = analysis(known_face(), fps=29.0, source="right", camera=1)
    status = messages.status_message([gone, other], 0, 0.1)
    fits(status, "status_message")
    assert (status["camera"], status["fps"], status["is_away"]) == (1, 29.0, False)
    assert len(status["faces"]) == 1
    nobody = messages.status_message([gone, gone], 0, 0.1)
    assert (nobody["camera"], nobody["is_away"]) == (0, True)


def test_records_fit_the_schema_of_the_log():
    gap, change = Gap(0, 0.1, 0.9, GapReason.FACE_LOST), StatusChange(SourceStatus.FROZEN, 0.8)
    span = VisibilitySpan(0, 0.0, 1.0, (1.0, 1.0, 2.0), (1.0, 1.0, 0.0), 1.0)
    mark = Mark(0.5, "page", "<b>now</b>")
    found = analysis(
        events=(event(),), gaps=(gap,), statuses=(change,), visibility=(span,), marks=(mark,)
    )
    records = [result.to_dict() for result in messages.results_of(found)]
    assert [r["type"] for r in records] == [
        *("status", "gap", "visibility", "micro_expression", "mark")
    ]
    for record in records:
        jsonschema.validate(record, schema())
        fits(json.loads(messages.record_text(1, json.dumps(record))), "record_message")


def test_greeting_and_farewell_fit_their_schemas():
    hello = messages.hello_message("a1", SESSION.to_dict(), "All.", may_control=True)
    hello = json.loads(messages.with_last(messages.text_of(hello), 7))
    assert hello["last"] == 7
    fits(hello, "hello")
    fits(messages.end_message(SUMMARY.to_dict()), "end")
    fits(messages.controlled_message("done"), "controlled")
    with pytest.raises(jsonschema.ValidationError):
        fits(hello | {"may_control": "yes"}, "hello")


def references(value):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


@pytest.mark.parametrize("text", [description.openapi(), description.asyncapi()])
def test_every_reference_of_a_description_leads_somewhere(text):
    found = set(references(text))
    assert found
    for reference in found:
        place = text
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_schemas_of_the_descriptions_are_schemas():
    for part in description.schemas().values():
        jsonschema.Draft202012Validator.check_schema(part)
    assert description.openapi()["components"] == {"schemas": description.schemas()}


# The rules of the two specifications that a reader depends on, in short.
_TEXT = {"type": "string", "minLength": 1}
_INFO = {
    "type": "object",
    "required": ["title", "version"],
    "properties": {"title": _TEXT, "version": _TEXT},
}
_OPENAPI = {
    "type": "object",
    "required": ["openapi", "info", "paths"],
    "properties": {
        "openapi": {"pattern": r"^3\.1\.\d+$"},
        "info": _INFO,
        "servers": {"items": {"required": ["url"]}},
        "paths": {
            "propertyNames": {"pattern": "^/"},
            "additionalProperties": {
                "propertyNames": {"const": "get"},
                "additionalProperties": {
                    "required": ["responses"],
                    "properties": {
                        "responses": {
                            "required": ["200"],
                            "propertyNames": {"pattern": "^[1-5][0-9][0-9]$"},
                            "additionalProperties": {
                                "required": ["description"],
                                "properties": {
                                    "content": {
                                        "propertyNames": {"pattern": "^[a-z]+/[a-z+-]+$"},
                                        "additionalProperties": {"required": ["schema"]},
                                    }
                                },
                            },
                        },
                        "parameters": {
                            "items": {
                                "required": ["name", "in", "schema"],
                                "properties": {"in": {"enum": ["query"]}},
                            }
                        },
                    },
                },
            },
        },
    },
}
_REFERENCE = {"required": ["$ref"]}
_ASYNCAPI = {
    "type": "object",
    "required": ["asyncapi", "info"],
    "properties": {
        "asyncapi": {"const": "3.0.0"},
        "info": _INFO,
        "channels": {
            "additionalProperties": {
                "required": ["address", "messages"],
                "properties": {"messages": {"additionalProperties": _REFERENCE}},
            }
        },
        "operations": {
            "additionalProperties": {
                "required": ["action", "channel"],
                "properties": {
                    "action": {"enum": ["send", "receive"]},
                    "channel": _REFERENCE,
                    "messages": {"type": "array", "minItems": 1, "items": _REFERENCE},
                },
            }
        },
        "components": {
            "properties": {"messages": {"additionalProperties": {"required": ["payload"]}}}
        },
    },
}


@pytest.mark.parametrize(
    ("text", "rules"),
    [(description.openapi(), _OPENAPI), (description.asyncapi(), _ASYNCAPI)],
    ids=["OpenAPI", "AsyncAPI"],
)
def test_descriptions_keep_the_rules_of_their_specification(text, rules):
    jsonschema.validate(text, rules)
