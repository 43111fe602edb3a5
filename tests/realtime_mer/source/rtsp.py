"""A tiny RTSP camera for tests: H.264 in an MPEG transport stream, over the control connection."""

import re
import socket
import struct
import threading
import time

_TS_PACKET = 188


class RTSPServer:
    """Sends a transport stream over and over, at its own pace; counts what clients ask for.

    Attributes:
        url: Its address.
        transports: The transport that each client asked for.
    """

    def __init__(self, stream: bytes, length_s: float) -> None:
        packets = [stream[k : k + _TS_PACKET] for k in range(0, len(stream), _TS_PACKET)]
        self._payloads = [b"".join(packets[k : k + 7]) for k in range(0, len(packets), 7)]
        self._length_s = length_s
        self.transports: list[str] = []
        self.over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._socket.getsockname()[1]}/live"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self.over.set()
        self._socket.close()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=[client], daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        data = b""
        try:
            while not self.over.is_set():
                while b"\r\n\r\n" not in data:
                    data += client.recv(4096)
                request, _, data = data.partition(b"\r\n\r\n")
                method = request.split()[0].decode()
                number = re.search(rb"CSeq: *(\d+)", request)[1].decode()
                headers, body = self._answer(method, request.decode())
                head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{headers}"
                client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                if method == "PLAY":
                    self._play(client)
        except (OSError, IndexError):
            pass
        client.close()

    def _answer(self, method: str, request: str) -> tuple[str, str]:
        if method == "OPTIONS":
            return "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""
        if method == "DESCRIBE":
            body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\n"
            return "Content-Type: application/sdp\r\n", body
        if method == "SETUP":
            transport = re.search(r"Transport: *(\S+)", request)[1]
            self.transports.append(transport)
            return f"Session: 1\r\nTransport: {transport}\r\n", ""
        return "Session: 1\r\n", ""

    def _play(self, client: socket.socket) -> None:
        number = 0
        while True:
            for payload in self._payloads:
                if self.over.wait(self._length_s / len(self._payloads)):
                    return
                clock = int(time.monotonic() * 90_000) & 0xFFFFFFFF
                head = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, clock, 1)
                number += 1
                packet = head + payload
                client.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
