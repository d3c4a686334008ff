"""Syslog over TLS (RFC 5425) to a collector: octet counting, reconnecting, and nothing lost while it is away.

RFC 5425 has no acknowledgement. So a frame counts as received when the collector's TCP has acknowledged it and the
connection has lived for ``CONFIRM`` s after that, or when the connection was closed in good order by both. If it ends
otherwise, all others are sent again on the next one: some may then come twice, under the same SqNum.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import random
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from fastsec.aio.event_spool import Spool
from fastsec.errors import FastsecError

if TYPE_CHECKING:
    from fastsec.aio.tls import TLSConfig
    from fastsec.eventlog.record import Record

PORT: Final = 6514
PIECE: Final = 16 * 1024
CONFIRM: Final = 30.0  # s
TIMEOUT: Final = 10.0  # s, for connecting, and for the collector to take a piece
BACKOFF: Final = (0.5, 60.0)  # s, first and longest pause between two tries
GOODBYE: Final = 2.0  # s

_log = logging.getLogger("fastsec.events.syslog")

Report = Callable[[bool, str], None]


def frame(line: bytes) -> bytes:
    """A line with its length in front (RFC 5425, 4.3)."""
    return b"%d %s" % (len(line), line)


class SyslogOutput:
    """Sends records to a collector, in a thread of its own.

    Arguments:
        host, port: the collector.
        tls: certificates and rules; its client side is used.
        spool: what waits; owned, closed by ``close``.
        report: called in this output's thread when the collector cannot be reached (False and why), once per outage,
            and when it is reached again (True and what was lost meanwhile, if anything).
        confirm, backoff, timeout: seconds, as the constants say.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: TLSConfig,
        spool: Spool,
        report: Report,
        *,
        confirm: float = CONFIRM,
        backoff: tuple[float, float] = BACKOFF,
        timeout: float = TIMEOUT,
    ) -> None:
        self._address = (host, port)
        self._tls = tls
        self._spool = spool
        self._report = report
        self._confirm = confirm
        self._backoff = backoff
        self._timeout = timeout
        self._sent = 0
        self._sending: deque[tuple[int, float]] = deque()  # sent up to this number, acknowledged by TCP since
        self._down = False
        self._told_refused = 0
        self._closing = threading.Event()
        self._deadline = 0.0
        self._renewed = False
        self._awake, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="fastsec-syslog", daemon=True)

    @property
    def reachable(self) -> bool:
        """False while the collector is not to be reached."""
        return not self._down

    @property
    def waiting(self) -> int:
        """Records that the collector may not have yet."""
        return self._spool.next - self._spool.first

    @property
    def refused(self) -> int:
        """Records for which the spool had no room, so far."""
        return self._spool.refused

    # --- as an output: called in the writer's thread ------------------------------------------------------------------
    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def write(self, records: list[tuple[Record, bytes]]) -> None:
        """Queue lines."""
        for entry, line in records:
            self._spool.append(frame(line), entry.event.severity)
        records.clear()
        self._spool.sync()
        self._nudge()

    def flush(self) -> None:
        """Nothing: whatever is queued is on its way."""

    def renew(self, tls: TLSConfig) -> None:
        """Use other certificates, at once."""
        self._tls = tls
        self._renewed = True
        self._nudge()

    def close(self, within: float = GOODBYE) -> None:
        """Send what is left for so many seconds; what is not sent then stays in the spool's directory."""
        self._deadline = time.monotonic() + within
        self._closing.set()
        self._nudge()
        if self._thread.ident is not None:
            self._thread.join(within + self._timeout)
        left = self._spool.next - self._spool.first
        if left and not self._spool.kept:
            _log.error("the collector did not take the last records: %d", left)
        self._spool.close()
        if not self._thread.is_alive():
            os.close(self._awake)
            os.close(self._wake)

    def _nudge(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake, b"x")

    # --- the thread --------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        pause = self._backoff[0]
        while not self._closing.is_set() or (self._spool.next > self._spool.first and self._in_time()):
            connection = self._connect()
            if connection is None:
                self._sleep(pause * random.uniform(0.75, 1.25))  # spreads load, guards nothing
                pause = min(2 * pause, self._backoff[1])
                continue
            since = time.monotonic()
            try:
                self._serve(connection)
                pause = self._backoff[0]
            except (OSError, ValueError) as error:
                self._sent = self._spool.first
                self._sending.clear()
                _log.info("the connection to the collector ended: %s", _reason(error))
                # Whoever lets us in and hangs up at once is asked less and less often, too.
                pause = self._backoff[0] if time.monotonic() - since > self._backoff[1] else pause
                self._sleep(pause)
                pause = min(2 * pause, self._backoff[1])
            finally:
                connection.close()

    def _in_time(self) -> bool:
        return time.monotonic() < self._deadline

    def _sleep(self, seconds: float) -> None:
        """Wait, but not when the output is closed, and not for what ``_nudge`` says."""
        if self._closing.wait(seconds):
            time.sleep(max(0.0, min(0.1, self._deadline - time.monotonic())))

    def _connect(self) -> ssl.SSLSocket | None:
        host, port = self._address
        try:
            plain = socket.create_connection((host, port), self._timeout)
        except OSError as error:
            self._unreachable(_reason(error))
            return None
        tls = self._tls
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._timeout * 1000))
            secured = tls.client_context.wrap_socket(
                plain, server_hostname=tls.server_hostname, suppress_ragged_eofs=False
            )
        except (OSError, ValueError) as error:
            plain.close()
            self._refused(tls, error)
            return None
        try:
            # An SSLSocket answers all that is asked of an SSLObject here.
            _, events, _ = tls.check_peer(cast("ssl.SSLObject", secured), time.time(), peer=f"{host}:{port}")
        except (OSError, FastsecError) as error:
            secured.close()
            self._refused(tls, error)
            return None
        tls.raise_events(events)
        self._reached()
        return secured

    def _refused(self, tls: TLSConfig, error: BaseException) -> None:
        """TLS failed: its events, once per outage."""
        if not self._down:
            host, port = self._address
            tls.raise_events(tls.failed(error, None, f"{host}:{port}", server_side=False))
        self._unreachable(_reason(error))

    def _unreachable(self, why: str) -> None:
        if not self._down:
            self._down = True
            self._report(False, why)

    def _reached(self) -> None:
        refused, self._told_refused = self._spool.refused - self._told_refused, self._spool.refused
        if self._down or refused:
            self._down = False
            self._report(True, f"records lost because the spool was full: {refused}" if refused else "")

    def _serve(self, connection: ssl.SSLSocket) -> None:
        """Send until something ends it, by an OSError or in good order."""
        self._renewed = False
        self._sent = max(self._sent, self._spool.first)
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(self._awake, select.POLLIN)
        while True:
            frames = self._spool.read(self._sent, PIECE)
            if frames:
                connection.settimeout(self._timeout)
                connection.sendall(b"".join(frames))
                self._sent += len(frames)
                self._sending.append((self._sent, 0.0))
            self._confirm_sent(connection)
            ending = self._closing.is_set() or self._renewed
            if ending and self._sent >= self._spool.next:
                self._goodbye(connection)
                return
            if frames:
                continue
            waiting = 1000 if self._sending else None
            found = {descriptor for descriptor, _ in poll.poll(waiting)}
            if self._awake in found:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._awake, 4096)
            if connection.fileno() in found:
                self._listen(connection)

    @staticmethod
    def _listen(connection: ssl.SSLSocket) -> None:
        """A collector says nothing but that it ends, and at most 4 KiB of that."""
        connection.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):
            if connection.recv(4096):
                return
            raise ConnectionResetError("closed by the collector")

    def _confirm_sent(self, connection: ssl.SSLSocket) -> None:
        sending = self._sending
        if not sending:
            return
        now = time.monotonic()
        if _unacknowledged(connection) == 0:
            while sending and not sending[-1][1]:
                # Everything written so far has arrived at the other machine: one entry for all of it.
                number = sending.pop()[0]
                while sending and not sending[-1][1]:
                    sending.pop()
                sending.append((number, now))
        while sending and sending[0][1] and now - sending[0][1] >= self._confirm:
            self._spool.done(sending.popleft()[0])

    def _goodbye(self, connection: ssl.SSLSocket) -> None:
        """Close in good order: the collector's own end of the connection comes after it has read everything."""
        connection.settimeout(min(self._timeout, GOODBYE))
        # An end without TLS's farewell, but without a reset either, says too that nothing was left unread.
        with contextlib.suppress(ssl.SSLEOFError):
            connection.unwrap()
        self._spool.done(self._sent)
        self._sending.clear()


def _unacknowledged(connection: ssl.SSLSocket) -> int:
    """Octets that the other machine has not acknowledged."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    return int(struct.unpack("i", answer)[0])


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
