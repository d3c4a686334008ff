"""TLS below an association: the T-security profile of IEC 62351-3 (62351-4 port 3782, docs/tls.md).

``TLSLayer`` stands between a transport and a protocol of asyncio: towards the transport it is the protocol, towards
the protocol the transport. asyncio's own TLS takes no session to resume and holds 256 KiB per connection. Here the
octets pass through two memory BIOs in pieces of at most 16 KiB, OpenSSL releases its record buffers when idle, and
what was decrypted is collected in a buffer that all connections of the loop share. The handshake's public-key work
and all checks run in worker threads, so that open associations never wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from fastsec import limits
from fastsec.aio import tls_checks
from fastsec.aio.runtime import SCRATCH, runtime
from fastsec.aio.tls_checks import CertificateRefused
from fastsec.aio.tls_config import TLSConfig, reason
from fastsec.aio.tls_profile import TLSRules
from fastsec.aio.tls_renewal import CLOSED, HANDSHAKE, NEW, OPEN, RENEWING, Attempt, OutOfTurn, Renewing, Step
from fastsec.errors import Aborted
from fastsec.events import SecurityEvent, named

if TYPE_CHECKING:
    from fastsec.pki.certificate import Certificate

__all__ = ["PIECE", "CertificateRefused", "TLSConfig", "TLSLayer", "TLSRules"]

PIECE: Final = 16 * 1024

_log = logging.getLogger("fastsec.tls")


class TLSLayer(Renewing):
    """TLS between a transport (below) and a protocol (above).

    The protocol sees ``connection_made`` when the handshake is over, and ``connection_lost`` exactly once, also
    when the handshake fails, then with an ``Aborted`` that says why. If it has a method ``retire(reason)``, that is
    called when the time of a session that cannot be renewed is over (62351-3).

    Arguments:
        upper: the protocol above.
        config: certificates and rules.
        server_side: the side that accepted the TCP connection.
        address: client: names the server, for session resumption.
    Attributes:
        resumed: the first handshake resumed a session.
        renewals: new handshakes made on this connection since.
    """

    __slots__ = ()

    # --- as the protocol of the transport below ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection stands; a client begins the handshake."""
        self._below = cast("asyncio.Transport", transport)
        if self._state == CLOSED:  # given up in between
            self._below.abort()
            return
        self._runtime = runtime()
        self._state = HANDSHAKE
        self._config = self._config.current
        self._first = attempt = Attempt(self._config, server_side=self._server_side)
        if self._server_side:
            return
        if self._address:
            attempt.session = self._config.session(self._address)
            if attempt.session is not None:
                attempt.offered = self._config.session_version(self._address)
        self._step(attempt)

    def data_received(self, data: bytes) -> None:
        """Octets of the connection below."""
        if self._state == OPEN:
            if self._address or len(data) > PIECE:
                self._take(data)
            else:
                self._take_few(data)
        elif self._state == RENEWING:
            renewal = self._renewal
            if renewal is not None and renewal.got:
                self._feed(renewal, data)
            else:
                self._take(data)
        elif self._state == HANDSHAKE and self._first is not None:
            self._first.feed(data)
            self._step(self._first)

    def eof_received(self) -> None:
        """The peer has closed its direction; the connection ends."""
        if self._state == RENEWING and self._over():
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection below is gone."""
        if self._state == HANDSHAKE and self._error is None:
            self._error = Aborted("provider", None, "the connection was closed during the TLS handshake")
            self._failed_with(None)
        elif self._state == RENEWING and self._error is None:
            if self._over():
                exc = None  # close_notify has come: whatever became of the TCP connection then
            else:
                self._error = Aborted("provider", None, "the connection was closed during a new TLS handshake")
        self._end()
        self._tell(self._error or exc)

    def _over(self) -> bool:
        """Nothing has followed the peer's close_notify: it was the end."""
        return self._renewal is not None and self._renewal.got and not self._renewal.fed

    def _end(self) -> None:
        self._state = CLOSED
        self._renewal = self._first = None
        self._config.current.closed(self)
        if self._slot:
            self._slot = self._runtime.timers.move(self, self._slot, None)

    def pause_writing(self) -> None:
        """The transport below is full."""
        self._full = True
        if self._renewal is None or not self._renewal.full:
            self._upper.pause_writing()

    def resume_writing(self) -> None:
        """The transport below has room again."""
        self._full = False
        if self._renewal is None or not self._renewal.full:
            self._upper.resume_writing()

    # --- handshake --------------------------------------------------------------------------------------------------

    def _step(self, attempt: Attempt) -> None:
        # Nothing is received while a thread uses the SSL object.
        self._below.pause_reading()
        self._work(Step(attempt, self._peer()), self._stepped, urgent=False)

    def _stepped(self, step: Step, error: BaseException | None) -> None:
        attempt = step.attempt
        if self._state != HANDSHAKE:
            return
        if isinstance(error, ssl.SSLWantReadError):
            if attempt.outgoing.pending:
                self._below.write(attempt.outgoing.read())
            self._below.resume_reading()
            return
        self._raise(step.events)
        self._incoming, self._outgoing = attempt.incoming, attempt.outgoing
        if error is not None or attempt.connection is None:
            self._failed_with(error)
            self._fail(error or OutOfTurn("no handshake"), alert=not isinstance(error, CertificateRefused))
            return
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())
        self._first = None
        self._ssl = attempt.connection
        self._state = OPEN
        self.resumed = bool(self._ssl.session_reused)
        self._grow_up(step.facts, step.events)
        self._config.opened(self)
        if self._config is not attempt.config:  # others have come to count in between
            self._hasten(True, 0.0)
        self._upper.connection_made(self)
        self._proceed()

    def _failed_with(self, error: BaseException | None) -> None:
        """The first handshake failed: the next attempt is a full one."""
        if self._key:
            self._config.forget_session(self._key)

    def _peer(self) -> str:
        peer = self._below.get_extra_info("peername")
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else self._key or "peer"

    def _raise(self, events: tuple[SecurityEvent, ...]) -> None:
        try:
            self._config.raise_events(events)
        except Exception as error:
            self._runtime.loop.call_exception_handler({"message": "event sink", "exception": error})

    def _fail(self, error: BaseException, *, alert: bool = True) -> None:
        """Send the alert that OpenSSL has left in the BIO, close, say why.

        Arguments:
            alert: what is in the BIO is one. A certificate that we refuse comes too late for one, and the end of the
                handshake, or a session ticket, is not for that peer.
        """
        if self._state >= OPEN and isinstance(error, ssl.SSLError) and self._renewal is None:
            self._raise(tuple(tls_checks.record_events(error, self._peer())))
        _log.info("%s: TLS: %s", self._peer(), reason(error))
        if alert and self._outgoing.pending:
            self._below.write(self._outgoing.read())
        self._finish(Aborted("provider", None, f"TLS: {reason(error)}"))

    def _leave(self, error: Exception) -> None:
        """End an open connection because of ``error``, with close_notify."""
        _log.info("%s: %s", self._peer(), error)
        self._notify()
        self._finish(error)

    def _finish(self, error: Exception) -> None:
        self._error = error
        self._end()
        if self._below.get_write_buffer_size() > PIECE:
            self._below.abort()  # the peer does not read; it will not read the alert either
        else:
            self._below.close()
            # The protocol above hears of the end now, so nobody else watches that the rest is taken.
            self._runtime.loop.call_later(limits.OUR_ABORT_LINGER, self._below.abort)
        self._tell(error)

    def _tell(self, error: Exception | None) -> None:
        if not self._told:
            self._told = True
            self._upper.connection_lost(error)

    # --- data -------------------------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Go on reading: what the BIO and ``_held`` still have, then the transport."""
        if self._state < OPEN or self._paused:
            return
        held, self._held = self._held, b""
        if self._ended:
            self._ended = False
            self._notified(held)
        else:
            self._take(held)
        if self._state >= OPEN and not self._paused and not self._reading_waits():
            self._below.resume_reading()
            if self._renewal is not None:
                self._end_session()

    def _reading_waits(self) -> bool:
        """A thread has the BIOs of the new session, and what comes is for them."""
        renewal = self._renewal
        return renewal is not None and renewal.running and renewal.got

    def _take_few(self, data: bytes) -> None:
        """As ``_take``, for what usually comes: one record, whole. No more than ``PIECE`` octets."""
        incoming, size = self._incoming, len(data)
        try:
            incoming.write(data)
            octets = self._ssl.read(size)  # more than what they decrypt to
        except ssl.SSLWantReadError:
            octets = b""
        except ssl.SSLError as error:
            self._fail(error)
            return
        else:
            if not octets:
                self._notified(incoming.read())
                return
            self._upper.data_received(octets)
        if self._state == OPEN:
            if (incoming.pending or len(octets) == size) and not self._paused:
                self._take(b"")
            elif self._outgoing.pending:
                self._below.write(self._outgoing.read())

    def _take(self, data: bytes) -> None:
        """Decrypt ``data`` and hand it up, in as few calls as the scratch buffer allows."""
        incoming, connection, scratch = self._incoming, self._ssl, self._runtime.scratch
        filled = position = 0
        try:
            while True:
                while incoming.pending or connection.pending():
                    count = cast("int", connection.read(SCRATCH, scratch[filled:]))
                    if not count:  # close_notify
                        raise EOFError
                    filled += count
                    if filled > SCRATCH - PIECE:
                        octets, filled = bytes(scratch[:filled]), 0
                        self._hand_up(octets)
                        if self._paused or self._state < OPEN:
                            self._held = data[position:]
                            return
                if position >= len(data):
                    break
                # In pieces: a memory BIO never gives back what it once grew to.
                incoming.write(data[position : position + PIECE] if len(data) > PIECE else data)
                position += PIECE
        except ssl.SSLWantReadError:
            # The rest of a record is missing: go on with the next piece, if there is one.
            if position < len(data):
                self._hand_up(bytes(scratch[:filled]))
                if self._paused or self._state < OPEN:
                    self._held = data[position:]
                else:
                    self._take(data[position:])
                return
        except (EOFError, ssl.SSLZeroReturnError):  # the latter where our own close_notify is out
            self._hand_up(bytes(scratch[:filled]))
            if self._state >= OPEN:
                self._notified(incoming.read() + data[position:])
            return
        except ssl.SSLError as error:
            self._hand_up(bytes(scratch[:filled]))
            if self._state >= OPEN:
                self._fail(error)
            return
        self._hand_up(bytes(scratch[:filled]))
        if filled and self._address and self._state == OPEN:
            # TLS 1.3 tickets come after the handshake, ahead of the first data.
            config, connection = self._config, self._ssl
            config.keep_session(
                self._address, connection.session, resumed=bool(connection.session_reused),
                version=connection.version() or "",
            )  # fmt: skip
            self._address = ""
        if self._outgoing.pending and self._state == OPEN:  # an answer of TLS itself, e.g. KeyUpdate
            self._below.write(self._outgoing.read())

    def _notified(self, rest: bytes) -> None:
        """close_notify has come, and behind it ``rest``."""
        if self._paused and self._state >= OPEN:
            self._ended = True  # the protocol above hears of the end when it is ready for it
            self._held = rest
        elif not self._session_ended(rest):
            self.close()

    def _hand_up(self, octets: bytes) -> None:
        if octets and not self._closing:
            self._upper.data_received(octets)

    # --- as the transport of the protocol above ---------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send. Without effect once closed."""
        if self._state != OPEN:
            renewal = self._renewal
            if self._state != RENEWING or self._closing or renewal is None:
                return
            if renewal.sent:
                self._queue(renewal, data)
                return
        if not data:
            return
        try:
            if len(data) <= PIECE:
                self._ssl.write(data)
                self._below.write(self._outgoing.read())
                return
            view = memoryview(data)
            blocks = []
            for start in range(0, len(view), PIECE):
                self._ssl.write(view[start : start + PIECE])
                blocks.append(self._outgoing.read())
        except ssl.SSLError as error:
            self._runtime.loop.call_soon(self._broken, error)
            return
        self._below.write(b"".join(blocks))

    def _broken(self, error: ssl.SSLError) -> None:
        # Not from within write(): the protocol above does not expect connection_lost there.
        if self._state >= OPEN:
            self._fail(error)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt and send several pieces."""
        for data in list_of_data:
            self.write(data)

    def close(self) -> None:
        """Send close_notify and what is queued, then close."""
        if self._state in (NEW, HANDSHAKE):
            self.abort()
        elif not self._waits_for_session("close"):
            self._notify()
            self._below.close()

    def write_eof(self) -> None:
        """Send close_notify and what is queued, and close this direction; what still comes is dropped."""
        if self._state >= OPEN and not self._waits_for_session("eof"):
            self._notify()
            if not self._below.is_closing():
                self._below.write_eof()
            if self._paused:
                self._below.resume_reading()

    def _waits_for_session(self, how: str) -> bool:
        """What is queued can be sent only in the new session; close then."""
        renewal = self._renewal
        if self._state == RENEWING and renewal is not None and renewal.queue and not self._over():
            self._closing = how
            return True
        return False

    def _notify(self) -> None:
        if self._state >= OPEN:
            sent = self._renewal is not None and self._renewal.sent
            self._end()
            if not sent:
                octets = self._notify_octets()
                if octets:
                    self._below.write(octets)

    def can_write_eof(self) -> bool:
        """Yes."""
        return True

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        new = self._state == NEW
        if self._state == HANDSHAKE and self._error is None:
            self._error = Aborted("local", None, "given up during the TLS handshake")
        if new:
            self._state = CLOSED
        else:
            self._end()
            self._below.abort()

    def is_closing(self) -> bool:
        """Closed, or about to be."""
        return self._state == CLOSED or bool(self._closing)

    def pause_reading(self) -> None:
        """Hand up nothing more until ``resume_reading``."""
        if not self._paused:
            self._paused = True
            renewal = self._renewal
            # What follows the peer's close_notify is not for the protocol above, and has to be read on.
            if self._state >= OPEN and (renewal is None or not renewal.got):
                self._below.pause_reading()

    def resume_reading(self) -> None:
        """Go on, in the next iteration of the loop."""
        if self._paused:
            self._paused = False
            if self._state >= OPEN:
                self._runtime.loop.call_soon(self._proceed)

    def get_write_buffer_size(self) -> int:
        """Octets queued below, and here for a new session."""
        return self._below.get_write_buffer_size() + (self._renewal.queued if self._renewal is not None else 0)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Limits of the transport below."""
        self._below.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``ssl_object``, ``peercert``, ``peer_certificate`` (DER), or what the transport below knows."""
        if name == "ssl_object":
            return self._ssl
        if name == "peercert":
            return self._ssl.getpeercert()
        if name == "peer_certificate":
            return self._peer_facts.der if self._peer_facts is not None else default
        return self._below.get_extra_info(name, default)

    def same_as_end_to_end(self, certificate: Certificate) -> bool:
        """Whether the TLS certificate of the peer is ``certificate``, or has its key: then there is an event.

        62351-4 Annex G wants two, so that what is signed for one can never serve the other.
        """
        facts = self._peer_facts
        if facts is None or (facts.der != certificate.der and not facts.public.endswith(certificate.public_key.octets)):
            return False
        why = "it is also the end-to-end certificate of the peer, or has its key (62351-4 Annex G)"
        self._raise((named("TLS_NO_TRUSTED_CERT_MATCH", peer=self._peer(), reason=why),))
        return True
