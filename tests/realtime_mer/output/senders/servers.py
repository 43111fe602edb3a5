"""What stands on the other side: an OSC server and an MQTT broker."""

import json
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.realtime_mer.output.senders.conftest import PATIENCE_S, Heard, wait_until

# Debian puts it where users do not look.
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """Mosquitto on a loopback port; retained messages do not outlive it."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self._file = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", *(settings or ("allow_anonymous true",))]
        self._file.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._file)], stderr=subprocess.DEVNULL
        )
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Subscriber(Heard):
    """An MQTT client that keeps what it gets; when it is there, it has subscribed."""

    def __init__(self, port: int, topic: str) -> None:
        from paho.mqtt.client import CallbackAPIVersion, Client

        super().__init__()
        is_ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: is_ready.set()
        self._client.on_message = self._keep
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert is_ready.wait(PATIENCE_S)

    def _keep(self, client, data, message) -> None:
        text = message.payload.decode()
        content = json.loads(text) if text[:1] in "{[" else text
        self._coming.put({"topic": message.topic, "content": content})

    def end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class OscReceiver:
    """A server that keeps each message, and of each bundle its size and whether it is for now."""

    def __init__(self, port: int = 0) -> None:
        from pythonosc.dispatcher import Dispatcher
        from pythonosc.osc_server import OSCUDPServer

        self.told: list[tuple] = []
        self.bundles: list[tuple[bool, int]] = []
        dispatcher = Dispatcher()
        dispatcher.set_default_handler(lambda *message: self.told.append(message))
        self._server = OSCUDPServer(("127.0.0.1", port), dispatcher)
        verify = self._server.verify_request

        def look(request, address) -> bool:
            is_now = request[0][8:16] == b"\0\0\0\0\0\0\0\1"
            self.bundles.append((is_now, len(request[0])))
            return verify(request, address)

        self._server.verify_request = look
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()

    def of(self, address: str) -> list[tuple]:
        return [message[1:] for message in self.told if message[0] == address]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
