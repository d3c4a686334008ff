"""A syslog collector over TLS (RFC 5425) in a thread, with faults: it dies in a frame, stalls, goes and comes back."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time

from rfc5424 import Message, parse


class Collector:
    """Takes connections one after another.

    Arguments:
        context: server side.
        port: 0: any.
    Attributes:
        lines: what has come, frame by frame, over all connections.
        connections: how many there were.
        dies_after: octets; then the connection is reset, mid-frame where it happens to be.
        stalled: while set, nothing is read.
    """

    def __init__(self, context: ssl.SSLContext, port: int = 0) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.lines: list[bytes] = []
        self.connections = 0
        self.dies_after: int | None = None
        self.stalled = threading.Event()
        self.orderly = 0
        self._going = False
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def messages(self) -> list[Message]:
        """What has come, parsed."""
        return [parse(line) for line in self.lines]

    @property
    def numbers(self) -> list[int]:
        """SqNum of what has come."""
        return [int(message.params["SqNum"]) for message in self.messages]

    def close(self, *, reset: bool = False) -> None:
        """Go away: no listener, no connection."""
        self._going = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # below TLS, which goes on waiting
        self._thread.join(10)

    def _accept(self) -> None:
        while not self._going:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            plain.settimeout(30)
            try:
                connection = self._context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False)
            except OSError:
                plain.close()
                continue
            self.connections += 1
            self._open.add(connection)
            try:
                self._read(connection)
                self.orderly += 1
            except OSError:
                pass
            finally:
                self._open.discard(connection)
                connection.close()

    def _read(self, connection: ssl.SSLSocket) -> None:
        data, count = b"", 0
        while True:
            while self.stalled.is_set() and not self._going:
                time.sleep(0.01)
            more = connection.recv(4096)
            if not more:
                connection.unwrap()
                return
            count += len(more)
            data += more
            while True:
                length, space, rest = data.partition(b" ")
                if not space or len(rest) < int(length):
                    break
                self.lines.append(rest[: int(length)])
                data = rest[int(length) :]
            if self.dies_after is not None and count >= self.dies_after:
                self.dies_after = None
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise OSError("dies")
