"""A fast plain MMS client and server that replay captured PDUs, so that what stands between them is what is timed."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
import time
from pathlib import Path
from typing import ClassVar

HERE = Path(__file__).resolve().parent
PDU = {path.stem: path.read_bytes() for path in (HERE / "pdu").glob("*.bin")}
TIMEOUT = 10.0


class PlainClient:
    """One association over a blocking socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ask("cr", 0xD0)
        self._ask("aarq", 0x0E)

    def _ask(self, name: str, expected: int) -> bytes:
        """Send a PDU, read one TPKT, and check the octet that says what it is (COTP code, or session SPDU)."""
        self.socket.sendall(PDU[name])
        answer = self.frame()
        found = answer[5] if expected == 0xD0 else answer[7]
        if found != expected:
            raise RuntimeError(f"answer to {name} is {answer[:16].hex()}")
        return answer

    def frame(self) -> bytes:
        head = self._exactly(4)
        return head + self._exactly(int.from_bytes(head[2:], "big") - 4)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            if not (chunk := self.socket.recv(count - len(data))):
                raise RuntimeError("the connection was closed")
            data += chunk
        return data

    def read(self) -> None:
        """One MMS Read; the answer has to be the captured one."""
        self.socket.sendall(PDU["readreq"])
        if self._exactly(len(PDU["readrsp"])) != PDU["readrsp"]:
            raise RuntimeError("another answer than the captured one")

    def close(self, orderly: bool = True) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            if orderly:
                self.socket.sendall(PDU["concludereq"])
                self.frame()
                self.socket.sendall(PDU["rlrq"])
                self.frame()
        self.socket.close()


def reads(client: PlainClient, seconds: float) -> float:
    """Reads per second on one association, one in flight."""
    count, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds:
        for _ in range(20):
            client.read()
        count += 20
    return count / taken


def reads_many(clients: list[PlainClient], seconds: float) -> float:
    """Reads per second over many associations, one in flight each."""
    request, answer = PDU["readreq"], PDU["readrsp"]
    sockets = {client.socket.fileno(): client.socket for client in clients}
    poll = select.epoll()
    for number in sockets:
        poll.register(number, select.EPOLLIN)
    count, start = 0, time.perf_counter()
    for one in sockets.values():
        one.sendall(request)
    partial: dict[int, bytes] = {}
    sending, outstanding = True, len(sockets)
    while outstanding:
        ready = poll.poll(TIMEOUT)
        if not ready:
            raise RuntimeError("no answer within the time")
        if sending and time.perf_counter() - start >= seconds:
            sending = False
        for number, _ in ready:
            one = sockets[number]
            data = partial.pop(number, b"") + one.recv(4096)
            if data == answer:
                count += 1
                if sending:
                    one.sendall(request)
                else:
                    outstanding -= 1
            elif len(data) < len(answer) and data and answer.startswith(data):
                partial[number] = data
            else:
                raise RuntimeError("another answer than the captured one")
    taken = time.perf_counter() - start
    poll.close()
    return count / taken


def associations(port: int, seconds: float) -> float:
    """Associations per second: connect, associate, one read, conclude, release, close; one after the other."""
    count, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds:
        client = PlainClient(port)
        client.read()
        client.close()
        count += 1
    return count / taken


class PlainServer(asyncio.Protocol):
    """Answers each captured request with the captured answer."""

    ANSWERS: ClassVar = {
        PDU[question]: PDU[answer]
        for question, answer in (("readreq", "readrsp"), ("concludereq", "concludersp"), ("rlrq", "rlre"))
    }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's derives from nothing
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        answer = self.ANSWERS.get(data)
        if answer is not None and not self.rest:
            self.transport.write(answer)
            return
        self.rest += data
        while len(self.rest) >= 4 and len(self.rest) >= (size := int.from_bytes(self.rest[2:4], "big")):
            frame, self.rest = self.rest[:size], self.rest[size:]
            self.transport.write(self.answer(frame))

    def answer(self, frame: bytes) -> bytes:
        if frame[5] == 0xE0:  # CR: confirm with the size that was asked for
            return PDU["cc"]
        if frame[7] == 0x0D:  # CN
            return PDU["aare"]
        # A gateway writes its own, equal, PDUs; tell them apart by what the MMS or ACSE APDU is.
        for request, answer in (("readreq", "readrsp"), ("concludereq", "concludersp"), ("rlrq", "rlre")):
            if frame[7:] == PDU[request][7:]:
                return PDU[answer]
        if frame[7] == 0x09:  # FN, in another encoding
            return PDU["rlre"]
        return b""


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(PlainServer, "127.0.0.1", 0)
    print(f"READY {server.sockets[0].getsockname()[1]}", flush=True)
    stopped = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), stopped.set)  # the parent closes our standard input when it is done, or dies
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())
