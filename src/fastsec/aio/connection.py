"""One association on one connection: the asyncio Protocol that composes channel, OSI environment and engine.

The data phase is short: ``data_received`` → ``OsiChannel.feed`` → the handler's ``pdus_received`` with a list, once per
read; ``write`` → ``OsiChannel.seal`` → the transport. Everything else is the control path: TPDUs the channel does not
open itself go to the ``OsiEndpoint``, its indications to the engine (``receiving``), and the engine's outputs to where
they belong (``wiring``).

Secured, plain and bare associations run through the same class; only the engine behind it differs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, cast

from fastsec import limits
from fastsec._core.cursor import Reader
from fastsec.aio.handler import Reject
from fastsec.aio.plain import PlainAssociation
from fastsec.aio.receiving import Receiving
from fastsec.aio.tls import TLSLayer
from fastsec.aio.wiring import ASSOCIATING, CLOSED, FULL, LINGER, OPEN, OPENING, TRANSPORT, Gone
from fastsec.errors import Aborted, DecodeError, FastsecError, LimitReached, LocalError, StateError
from fastsec.instant import now
from fastsec.outputs import (
    AssociateIndication,
    Confirmed,
    Ended,
    Established,
    Raised,
    Received,
    Released,
    ReleaseIndication,
    RolesChanged,
)
from fastsec.profile import NULL_APPL_DATA

if TYPE_CHECKING:
    from fastsec.pki.path import VerifiedPeer
    from fastsec.pki.roles import RoleGrant


def _check_carriable(pdu: bytes) -> None:
    """LocalError for what the channel would not seal either: not exactly one applData TLV, or too large."""
    if len(pdu) > limits.OUR_MMS_PDU_MAX:
        raise LocalError(f"a PDU of {len(pdu)} octets, where at most {limits.OUR_MMS_PDU_MAX} are carried")
    reader = Reader(pdu)
    try:
        reader.next()
        reader.finish()
    except DecodeError as error:
        raise LocalError(f"not exactly one PDU: {error}") from None
    if not (pdu[0] & 0xC0 == 0x80 or pdu[0] & 0xDF == 0xC0 or pdu == NULL_APPL_DATA):
        raise LocalError("applData begins with a CONTEXT tag or PRIVATE 0 (62351-4)")


class Connection(Receiving):
    """An association as its handler sees it. Made by ``connect`` and ``serve``, not by applications.

    Attributes:
        own_initiate: this side's protected-protocol PDU for the handshake.
        peer_initiate: the peer's, once it came.
        request: association role server: the AARQ while the application decides, then None.
        client: whether this side is the association's client, whoever dialled.
        can_write: False while the transport's buffer is full; ``resumed`` tells when it is not any more. Only to be
            read.
        context: free for the application.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        role = "client" if self.client else "server"
        phase = ("opening", "transport", "associating", "open", "over", "closed")[self._phase]
        return f"<fastsec association, {role}, {phase}, peer {self.peer_address or '?'}>"

    # --- what applications ask ----------------------------------------------------------------------------------

    @property
    def peer(self) -> VerifiedPeer | None:
        """The verified peer; None before its handshake PDU verified, and without security."""
        return self._engine.peer

    @property
    def roles(self) -> tuple[RoleGrant, ...]:
        """The verified roles of the peer (IEC 62351-8): () until the association is confirmed, and after its end."""
        return self._engine.roles

    @property
    def confirmed(self) -> bool:
        """Whether the peer has proved that it saw our handshake unaltered (62351-4 §6). True without security."""
        return self._engine.confirmed

    @property
    def initiate_response(self) -> bytes:
        """Client: the protected protocol's response from the handshake (an MMS initiate-Response)."""
        return self.peer_initiate

    @property
    def initiate_request(self) -> bytes:
        """Server: the protected protocol's request from the handshake."""
        return self.peer_initiate

    @property
    def key_updates(self) -> int:
        """Key updates completed so far, those of an association that has ended included. 0 without security."""
        return 0 if isinstance(self._engine, PlainAssociation) else self._engine.key_updates

    @property
    def secured(self) -> bool:
        """False for a plain association."""
        return self._tx is not None

    @property
    def is_open(self) -> bool:
        """Data may be sent."""
        return self._phase == OPEN

    @property
    def has_asked(self) -> bool:
        """An association was asked for, by either side."""
        return self._phase >= ASSOCIATING

    @property
    def may_retry(self) -> bool:
        """Client, after the end: the peer refused only our association number; a new attempt takes another one."""
        return not isinstance(self._engine, PlainAssociation) and self._engine.may_retry

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport, for ``get_extra_info``."""
        return self._transport

    # --- what applications do -----------------------------------------------------------------------------------

    def write(self, pdu: bytes) -> None:
        """Protect and send one PDU of the protected protocol.

        Never blocks; what the network does not take is buffered. Watch ``can_write``.

        Errors:
            StateError: the association is not open.
            LocalError: not exactly one PDU.
        """
        if not self._fast_tx:
            self._write_slowly([pdu])
            return
        try:
            octets = self._channel.seal(pdu, time_ns() // 1_000_000)
        except LimitReached:
            self._tick()
            raise
        self._transport.write(octets)  # type: ignore[union-attr]  # there is one while data is sent
        tx = self._tx
        if tx is not None and tx.due:
            self._tick()

    def write_many(self, pdus: list[bytes]) -> None:
        """Protect and send PDUs in this order, with few calls to the transport.

        Errors as ``write``; on LocalError nothing of the list was sent.
        """
        if not self._fast_tx:
            self._write_slowly(pdus)
            return
        try:
            blocks = self._channel.seal_batch(pdus, time_ns() // 1_000_000)
        except LimitReached:
            self._tick()
            raise
        for block in blocks:
            self._transport.write(block)  # type: ignore[union-attr]  # there is one while data is sent
        tx = self._tx
        if tx is not None and tx.due:
            self._tick()

    def release(self) -> None:
        """Ask the peer for orderly release; ``released`` and ``ended`` follow.

        Errors:
            StateError: the association is not open.
        """
        if self._phase != OPEN:
            raise StateError("only an open association can be released; abort() ends any other")
        self._engine.release(now())
        self._drain()

    def retire(self, reason: str) -> None:
        """End in an orderly way: release if open, else abort. TLS calls it when its session may last no longer."""
        if self._phase != OPEN:
            self.abort(reason=reason)
            return
        with contextlib.suppress(StateError):  # a release is under way already
            self.release()

    def update_keys(self) -> None:
        """Start a key update, or as server ask the client for one (62351-4 key update). StateError if not open."""
        if self._phase != OPEN:
            raise StateError("keys can be updated only while the association is open")
        self._engine.update_keys(now())
        self._drain()

    def pause_reading(self) -> None:
        """Receive nothing more until ``resume_reading``; what was already read is still delivered."""
        self._hold(FULL)

    def resume_reading(self) -> None:
        """Go on receiving."""
        self._let_go(FULL)

    def _write_slowly(self, pdus: list[bytes]) -> None:
        if self._phase != OPEN:
            raise StateError("the association is not open")
        if self.secured:
            # All before any, as the channel does: who is told of one bad PDU may send the good ones again.
            for pdu in pdus:
                _check_carriable(pdu)
        traffic = self._meter.traffic
        for pdu in pdus:
            self._engine.send(pdu, now())
            traffic.pdus_out += 1
            traffic.octets_out += len(pdu)
            self._drain()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """The hot path: one call of the channel, one of the handler."""
        if self._phase >= LINGER:
            return
        try:
            pdus = self._channel.feed(data, time_ns() // 1_000_000)
            if pdus:
                try:
                    self._handler.pdus_received(self, pdus)
                except Exception as error:
                    self._handler_failed(error)
            frame = self._channel.next()
        except DecodeError as error:
            self._misframed(error)
            return
        if frame is not None:
            self._pump(frame)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP, and TLS if wanted, stand."""
        self._transport = cast("asyncio.Transport", transport)
        if self._phase >= LINGER:
            self._transport.abort()
            return
        self._phase = TRANSPORT
        resumed = getattr(transport, "resumed", None)
        if resumed is not None:
            self._meter.end_tls_handshake(resumed)
        if self._osi is None:
            self._engine.start(b"", now())
            self._drain()
        elif self.client:
            self._due = None
            if self._keeper is not None:
                self._keeper.opened(self)  # a server that dialled in may wait long until it is asked
            self._settle(self._call(self._handler.initiate), self._connect_transport)
        elif self._patient:
            self._due = None
        self._retime()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, or its TLS handshake failed."""
        if self._transport is not None and not self._lost:
            self._transport = Gone(self._transport)
        if self._phase < LINGER and self._engine.busy:
            self._lost = True  # the PDU under examination may be the end that the peer wanted
            return
        if self._phase < LINGER:
            if isinstance(exc, FastsecError):
                self._reason = self._reason or exc
            elif self.client and self._phase == TRANSPORT and self._due is not None:  # the CR has gone out
                words = (
                    "the peer closed the connection without an answer: it does not let us in, is full or expects TLS"
                )
                self._reason = self._reason or Aborted("provider", None, words)
            elif exc is not None:
                self._reason = self._reason or Aborted("provider", None, f"the connection was lost: {exc}")
            try:
                if self._phase > OPENING:
                    self._engine.connection_lost(now())
                    self._drain()
            finally:
                self._over(Aborted("provider", None, "the connection was closed"))
        self._phase = CLOSED
        self._slot = self._runtime.timers.move(self, self._slot, None)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.closed(self)

    def tls_renewed(self) -> None:
        """The TLS layer below has authenticated its peer anew."""
        self._meter.renew_tls()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.can_write = False

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        self.can_write = True
        if self._phase == OPEN:
            self._call(self._handler.resumed)

    # --- telling the handler ------------------------------------------------------------------------------------

    def _tell(self) -> None:
        self._telling = True
        try:
            while self._news:
                output = self._news.popleft()
                _TOLD[type(output)](self, output)
        finally:
            self._telling = False
            self._news = None

    def _connect_transport(self, initiate: bytes) -> None:
        if self._phase >= LINGER or self._osi is None:
            return
        self.own_initiate = initiate
        self._osi.connect_transport()
        self._flush()
        self._set_due(limits.OUR_ACCEPT_TO_AARQ)

    def _has_one_certificate(self) -> bool:
        """Whether the peer has the same certificate for TLS and end to end (62351-4 Annex G): then it is refused.

        Of the A-profile, whose peers are not validated for an identity, nobody demands two.
        """
        peer, layer = self._engine.peer, self._transport
        if peer is None or not peer.names or not isinstance(layer, TLSLayer):
            return False
        if not layer.same_as_end_to_end(peer.certificate):
            return False
        self.abort(reason="the peer has one certificate for TLS and end-to-end security; 62351-4 wants two")
        return True

    def _indicated(self, output: AssociateIndication) -> None:
        if self._has_one_certificate():
            return
        self.peer_initiate = output.appl_data
        self._settle(self._call(self._handler.association_requested, output.appl_data), self._answer)

    def _answer(self, answer: bytes | Reject | None) -> None:
        self.request = None
        try:
            if isinstance(answer, Reject):
                self._engine.reject(answer.appl_data, answer.transient, now())
            elif isinstance(answer, bytes):
                self.own_initiate = b""
                self._engine.accept(answer, now())
            else:
                raise TypeError("association_requested must give bytes or Reject")
        except StateError:
            return  # the peer has left, or the time was over, while the application thought
        except Exception as error:
            self._handler_failed(error)
            return
        self._drain()

    def _established(self, output: Established) -> None:
        if self.client and self._has_one_certificate():
            return
        self._phase = OPEN
        self._due = None
        self._meter.open_association(self, output.confirmed)
        if self._keeper is not None:
            self._keeper.opened(self)
        if self.client:
            self.peer_initiate = output.appl_data
            self.own_initiate = b""
        self._call(self._handler.associated)

    def _confirmed(self, output: Confirmed) -> None:
        if not isinstance(self._engine, PlainAssociation):
            self._engine.wakeup = None  # only unconfirmed associations are evicted by others
        self._meter.confirm_association(self)
        self._call(self._handler.confirmed)

    def _roles_changed(self, output: RolesChanged) -> None:
        self._call(self._handler.roles_changed)

    def _received(self, output: Received) -> None:
        traffic = self._meter.traffic
        for pdu in output.pdus:
            traffic.pdus_in += 1
            traffic.octets_in += len(pdu)
        self._call(self._handler.pdus_received, output.pdus)

    def _release_asked(self, output: ReleaseIndication) -> None:
        self._settle(self._call(self._handler.release_requested), self._answer_release)

    def _answer_release(self, _: None) -> None:
        if self._phase < LINGER:
            try:
                self._engine.release_accept(now())
            except StateError:
                return  # ended meanwhile
            self._drain()

    def _released(self, output: Released) -> None:
        self._call(self._handler.released)

    def _ended(self, output: Ended) -> None:
        self._over(output.error)

    def _raised(self, output: Raised) -> None:
        try:
            self._sink(output.event)
        except Exception as error:
            self._runtime.loop.call_exception_handler({"message": "event sink", "exception": error})
        self._call(self._handler.event_received, output.event)


_TOLD: Final[dict[type, Callable[[Connection, Any], None]]] = {
    AssociateIndication: Connection._indicated,
    Established: Connection._established,
    Confirmed: Connection._confirmed,
    RolesChanged: Connection._roles_changed,
    Received: Connection._received,
    ReleaseIndication: Connection._release_asked,
    Released: Connection._released,
    Ended: Connection._ended,
    Raised: Connection._raised,
}
