"""An MQTT receiver in a process of its own that prints what it gets. Arguments: port and topic."""

import json
import sys
import time

from paho.mqtt.client import CallbackAPIVersion, Client


def say(**what) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def on_connect(client, data, flags, reason, properties) -> None:
    client.subscribe(sys.argv[2], qos=1)


def on_message(client, data, message) -> None:
    text = message.payload.decode()
    say(
        topic=message.topic,
        content=json.loads(text) if text[:1] in "{[" else text,
        retain=message.retain,
        qos=message.qos,
        at=time.monotonic(),
    )


client = Client(CallbackAPIVersion.VERSION2)
client.reconnect_delay_set(1, 1)
client.on_connect = on_connect
client.on_subscribe = lambda *_: say(ready=True)
client.on_message = on_message
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
sys.stdin.read()
