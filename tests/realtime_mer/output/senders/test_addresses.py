import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.senders.addresses import MqttAddress, OscAddress


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("9000", "127.0.0.1", 9000),
        ("studio.local:7400", "studio.local", 7400),
        ("192.168.1.20:57120", "192.168.1.20", 57120),
        ("[::1]:9000", "::1", 9000),
    ],
)
def test_osc_addresses(text, host, port):
    assert OscAddress.parse(text) == OscAddress(host, port)


@pytest.mark.parametrize(
    "text", ["", "host", "host:0", "host:70000", ":9000", "osc://host:1", "a b:1", "::1:9000"]
)
def test_what_is_no_osc_address_is_refused(text):
    with pytest.raises(InputError, match="no address to send OSC to"):
        OscAddress.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt://broker", MqttAddress("broker", 1883, "realtime_mer")),
        ("MQTT://broker:1884/lab/1/", MqttAddress("broker", 1884, "lab/1")),
        (
            "mqtts://ann:a%20b@broker/x",
            MqttAddress("broker", 8883, "x", "ann", "a b", is_encrypted=True),
        ),
        # A password that was not encoded.
        (
            "mqtt://ann:20#24@10.0.0.2",
            MqttAddress("10.0.0.2", 1883, "realtime_mer", "ann", "20#24"),
        ),
        ("mqtt://ann@[::1]:1", MqttAddress("::1", 1, "realtime_mer", "ann")),
    ],
)
def test_mqtt_addresses(text, expected):
    assert MqttAddress.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("broker", "http://broker", "mqtt://", "mqtt://broker:0", "mqtt://broker:x"),
        *("mqtt://broker/a?b", "mqtt://broker/a+b", "mqtt://broker/%23", f"mqtt://b/{'x' * 201}"),
        *("mqtt://a b", "mqtt://a\x1bb", "mqtt://a/x%00y", "mqtt://a/x%0Ay", "mqtt://a/%24SYS"),
    ],
)
def test_what_is_no_mqtt_address_is_refused(text):
    with pytest.raises(InputError):
        MqttAddress.parse(text)


@pytest.mark.parametrize("text", ["mqtt://ann:s3cret@broker:x", "mqtt://ann:s3cret@broker/a+b"])
def test_passwords_are_not_shown(text):
    with pytest.raises(InputError) as refused:
        MqttAddress.parse(text)
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(MqttAddress.parse("mqtt://ann:s3cret@broker"))
