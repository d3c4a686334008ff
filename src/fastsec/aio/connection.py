"""One association on one connection: the asyncio Protocol that composes channel, OSI environment and engine.

The data phase is short: ``data_received`` → ``OsiChannel.feed`` → the handler's ``pdus_received`` with a list, once per
read; ``write`` → ``OsiChannel.seal`` → the transport. Everything else is the control path: TPDUs the channel does not
open itself go to the ``OsiEndpoint``, its indications to the engine, and the engine's outputs to where they belong.

Secured, plain and bare associations run through the same class; only the engine behind it differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import sys
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from fastsec import limits
from fastsec._core.osidata import OsiChannel
from fastsec.aio.events import default_sink
from fastsec.aio.handler import AssociationHandler, Reject
from fastsec.aio.plain import PlainAssociation
from fastsec.aio.runtime import Runtime
from fastsec.envs.osi import (
    AbortInd,
    AeTitle,
    AssociateCnf,
    AssociateInd,
    DataInd,
    EnvFault,
    OsiEndpoint,
    OsiParams,
    ProviderAbort,
    ReleaseCnf,
    ReleaseInd,
    TransportConnected,
)
from fastsec.errors import Aborted, DecodeError, FastsecError, LimitReached, LocalError, Rejected, StateError
from fastsec.instant import Instant, now
from fastsec.outputs import (
    AssociateIndication,
    Confirmed,
    Ended,
    Established,
    Job,
    KeysChanged,
    Output,
    Raised,
    Received,
    Released,
    ReleaseIndication,
    Run,
    Send,
)
from fastsec.pki.identity import OsiName
from fastsec.secpdu.fields import Carrier

if TYPE_CHECKING:
    from fastsec._core.guard import SealGuard
    from fastsec.association import Association
    from fastsec.events import EventSink
    from fastsec.pki.path import VerifiedPeer

_log = logging.getLogger("fastsec.osi")

# Phases of the connection. The engine has its own states; these say what the adapter itself waits for.
OPENING: Final = 0  # TCP and TLS
TRANSPORT: Final = 1  # COTP, and on the accepting side the AARQ
ASSOCIATING: Final = 2
OPEN: Final = 3
LINGER: Final = 4  # over; the last PDU is out and the peer may still read it
CLOSED: Final = 5

# Why reading is paused; a bit each.
BUSY: Final = 1  # a job of the receive path is under way
FULL: Final = 2  # the application asked for it


class Keeper(Protocol):
    """Who counts connections: the server that accepted them."""

    def opened(self, connection: Connection) -> None:
        """Its association is open."""

    def closed(self, connection: Connection) -> None:
        """Its connection is gone."""


class Connection(asyncio.Protocol):
    """An association as its handler sees it. Made by ``connect`` and ``serve``, not by applications.

    Attributes:
        own_initiate: this side's protected-protocol PDU for the handshake.
        peer_initiate: the peer's, once it came.
        request: association role server: the AARQ while the application decides, then None.
        client: whether this side is the association's client, whoever dialled.
        context: free for the application.
    """

    __slots__ = (
        "_can_write", "_channel", "_due", "_engine", "_fast_rx", "_fast_tx", "_handler", "_keep", "_keeper",
        "_linger", "_lost", "_news", "_osi", "_patient", "_pause", "_phase", "_reason", "_runtime", "_sink", "_slot",
        "_task", "_telling", "_transport", "_tx", "client", "context", "own_initiate", "peer_initiate", "request",
    )  # fmt: skip

    def __init__(
        self,
        runtime: Runtime,
        handler: AssociationHandler,
        engine: Association | PlainAssociation,
        params: OsiParams | None,
        *,
        client: bool,
        initiate: bytes = b"",
        sink: EventSink | None = None,
        keep: Callable[[], None] | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self._runtime = runtime
        self._handler = handler
        self._engine = engine
        if not isinstance(engine, PlainAssociation):
            engine.wakeup = self._wakened
        self._channel = OsiChannel(limits.OUR_TSDU_MAX)
        self._osi = OsiEndpoint("initiator" if client else "responder", params, self._channel) if params else None
        self._sink: EventSink = sink or default_sink
        self._keep = keep
        self._keeper = keeper
        self._patient = keeper is None and not client
        self._transport: asyncio.Transport | None = None
        self._phase = OPENING
        self._due: int | None = None
        self._slot = 0
        self._pause = 0
        self._can_write = True
        self._fast_rx = self._fast_tx = False
        self._tx: SealGuard | None = None
        self._news: deque[Output] | None = None
        self._telling = False
        self._linger = False
        self._lost = False
        self._reason: FastsecError | None = None
        self._task: asyncio.Future[Any] | None = None
        self.client = client
        self.own_initiate = initiate
        self.peer_initiate = b""
        self.request: AssociateInd | None = None
        self.context: Any = None

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
    def secured(self) -> bool:
        """False for a plain association."""
        return self._tx is not None

    @property
    def is_open(self) -> bool:
        """Data may be sent."""
        return self._phase == OPEN

    @property
    def can_write(self) -> bool:
        """False while the transport's buffer is full; ``resumed`` tells when it is not any more."""
        return self._can_write

    @property
    def peer_address(self) -> str:
        """Host and port of the TCP peer, empty if there is none."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""

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
            self._write_slowly(pdu)
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
        """Protect and send PDUs in this order, with few calls to the transport. Errors as ``write``."""
        if not self._fast_tx:
            for pdu in pdus:
                self._write_slowly(pdu)
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

    def abort(self, appl_data: bytes | None = None, *, reason: str = "") -> None:
        """End at once; ``ended`` follows. Without effect if already over.

        Arguments:
            appl_data: the protected protocol's own abort, if it has one.
            reason: phrase for the error that ``ended`` gets here; the peer does not see it.
        """
        if self._phase < LINGER:
            if reason and self._reason is None:
                self._reason = Aborted("local", None, reason)
            if self._phase <= TRANSPORT:
                self._over(Aborted("local", None, "given up before there was an association"))
            else:
                with contextlib.suppress(StateError):  # the last PDU is being signed already
                    self._engine.abort(appl_data, now())
                self._drain()

    def cut(self) -> None:
        """Drop the TCP connection now; what is queued is lost. For a shutdown that cannot wait."""
        if self._phase < LINGER:
            self._over(Aborted("local", None, "the connection was cut"))
        if self._transport is not None:
            self._transport.abort()

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
        if self._osi is None:
            self._engine.start(b"", now())
            self._drain()
        elif self.client:
            self._due = None
            self._settle(self._call(self._handler.initiate), self._connect_transport)
        elif self._patient:
            self._due = None
        self._retime()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, or its TLS handshake failed."""
        if self._transport is not None and not self._lost:
            self._transport = _Gone(self._transport)
        if self._phase < LINGER and self._engine.busy:
            self._lost = True  # the PDU under examination may be the end that the peer wanted
            return
        if self._phase < LINGER:
            if isinstance(exc, FastsecError):
                self._reason = self._reason or exc
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

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._can_write = False

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        self._can_write = True
        if self._phase == OPEN:
            self._call(self._handler.resumed)

    # --- timers -------------------------------------------------------------------------------------------------

    def begin(self, layer: asyncio.Transport | None, seconds: float | None) -> None:
        """Called before the connection stands.

        Arguments:
            layer: the TLS layer that will call ``connection_made``, or None.
            seconds: until TLS, COTP and, on the accepting side, the AARQ have to be there; None: no limit.
        """
        self._transport = layer
        self._set_due(seconds)

    def dismiss(self) -> None:
        """The attempt to connect failed; the handler is not told, the caller is."""
        self._phase = CLOSED
        self._slot = self._runtime.timers.move(self, self._slot, None)
        if self._transport is not None:
            self._transport.abort()

    def limit_opening(self, seconds: float) -> None:
        """TCP stands; TLS, if it is still under way, has to be there after so many seconds."""
        if self._phase == OPENING:
            self._set_due(seconds)

    def _set_due(self, seconds: float | None) -> None:
        self._due = None if seconds is None else now().mono_ms + int(seconds * 1000)
        self._retime()

    def _retime(self) -> None:
        due = self._due
        deadline = self._engine.deadline
        if deadline is not None and self._phase < LINGER and (due is None or deadline < due):
            due = deadline
        if due is not None or self._slot:
            self._slot = self._runtime.timers.move(self, self._slot, due)

    def timer_expired(self) -> None:
        """The deadline of the adapter or of the engine has come."""
        self._slot = 0
        at = now()
        if self._due is not None and at.mono_ms >= self._due:
            self._due = None
            if self._phase >= LINGER:
                if self._transport is not None:
                    self._transport.abort()
                return
            waited = "the transport connection" if self.client else "the association request"
            self.abort(reason=f"{waited} did not come in time")
        elif self._phase < LINGER:
            self._engine.tick(at)
            self._drain()

    def _tick(self) -> None:
        self._engine.tick(now())
        self._drain()

    # --- receiving, control path --------------------------------------------------------------------------------

    def _pump(self, frame: tuple[int, bytes] | None) -> None:
        """Handle frames the channel has not opened itself until none is left, a job is under way or all is over."""
        channel, engine = self._channel, self._engine
        try:
            while frame is not None and self._phase < LINGER:
                at = now()
                fault = channel.fault
                if fault is not None:
                    engine.transfer_fault(fault, at)
                elif self._osi is None:
                    raise DecodeError("only DT TPDUs are expected here", step="COTP")
                else:
                    for indication in self._osi.receive_tpdu(*frame):
                        _INDICATED[type(indication)](self, indication, at)
                self._drain()
                if self._phase >= LINGER or self._pause & BUSY:
                    return
                frame = self._go_on()
        except DecodeError as error:
            self._misframed(error)

    def _go_on(self) -> tuple[int, bytes] | None:
        pdus = self._channel.feed(b"", time_ns() // 1_000_000)
        if pdus:
            try:
                self._handler.pdus_received(self, pdus)
            except Exception as error:
                self._handler_failed(error)
            if self._phase >= LINGER:
                return None
        return self._channel.next()

    def _misframed(self, error: DecodeError) -> None:
        _log.info("%s: %s", self.peer_address, error)
        if self._phase < LINGER:
            self._reason = self._reason or error
            self._engine.environment_fault("OSI_ENV_PROT_ERR", now())
            self._drain()
            self._over(error)

    def _transport_connected(self, indication: TransportConnected, at: Instant) -> None:
        if self.client:
            self._phase = ASSOCIATING
            self._due = None
            try:
                self._engine.start(self.own_initiate, at)
            except (LocalError, LimitReached) as error:
                self._over(error)

    def _associate_ind(self, indication: AssociateInd, at: Instant) -> None:
        self._phase = ASSOCIATING
        self._due = None
        self.request = indication
        self._engine.receive(
            Carrier.ASSOCIATE_REQ,
            indication.user_data,
            at,
            calling=_name_of(indication.calling),
            source=sys.intern(self.peer_address.rpartition(":")[0]),  # kept by the engine; often the same
        )

    def _associate_cnf(self, indication: AssociateCnf, at: Instant) -> None:
        engine, user_data = self._engine, indication.user_data
        if indication.result != "accepted":
            transient = indication.result == "rejected-transient"
            if isinstance(engine, PlainAssociation):
                engine.refused(user_data, transient, indication.text)
                return
            if user_data is None and self._reason is None:
                self._reason = Rejected("peer", None, indication.text, None, transient)
        responding = _name_of(indication.responding)
        engine.receive(Carrier.ASSOCIATE_RSP, user_data, at, responding=responding, disposition=indication.result)

    def _data_ind(self, indication: DataInd, at: Instant) -> None:
        self._engine.receive(Carrier.DATA, indication.pdu, at)

    def _release_ind(self, indication: ReleaseInd, at: Instant) -> None:
        self._engine.receive(Carrier.RELEASE_REQ, indication.user_data, at)

    def _release_cnf(self, indication: ReleaseCnf, at: Instant) -> None:
        self._linger = False
        self._engine.receive(Carrier.RELEASE_RSP, indication.user_data, at)

    def _abort_ind(self, indication: AbortInd, at: Instant) -> None:
        self._linger = False
        self._engine.receive(Carrier.ABORT, indication.user_data, at)

    def _provider_abort(self, indication: ProviderAbort, at: Instant) -> None:
        self._linger = False
        if self._reason is None and self._phase < OPEN:
            self._reason = Aborted("provider", None, indication.reason)
        if self._phase == TRANSPORT:
            self._over(self._reason)
        else:
            self._engine.receive(Carrier.ABORT, None, at)

    def _env_fault(self, indication: EnvFault, at: Instant) -> None:
        _log.info("%s: %s: %s", self.peer_address, indication.mnemonic, indication.text)
        self._linger = True
        self._reason = self._reason or Aborted("local", None, f"fault of the OSI environment: {indication.text}")
        self._engine.environment_fault(indication.mnemonic, at)

    def _wakened(self) -> None:
        """Another association, in a call of its own, has caused outputs of this one's engine."""
        self._runtime.loop.call_soon(self._drain)

    # --- what the engine wants ----------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Carry out the engine's outputs: all that touches the wire first, then the news to the handler.

        So a handler that writes from within a callback never overtakes a PDU the engine has already protected.
        """
        if self._phase >= LINGER:
            return
        engine = self._engine
        outputs = engine.outputs()
        while outputs:
            for output in outputs:
                kind = type(output)
                if kind is Send:
                    self._carry(cast("Send", output))
                elif kind is KeysChanged:
                    self._arm()
                elif kind is Run:
                    self._runtime.jobs.submit(cast("Run", output).job, self._job_done, urgent=self._phase == OPEN)
                else:
                    if self._news is None:
                        self._news = deque()
                    self._news.append(output)
            outputs = engine.outputs()
        if self._keep is not None and self._phase != OPEN:
            self._keep()
        self._flush()
        if engine.fast_rx != self._fast_rx or engine.fast_tx != self._fast_tx:
            self._arm()
        if self._news is not None and not self._telling:
            self._tell()
        if self._phase < LINGER:
            if engine.busy:
                self._hold(BUSY)
            self._retime()

    def _flush(self) -> None:
        if self._osi is not None and self._transport is not None:
            octets = self._osi.data_to_send()
            if octets:
                self._transport.write(octets)

    def _carry(self, send: Send) -> None:
        osi, carrier, pdu = self._osi, send.carrier, send.pdu
        if osi is None:
            return
        try:
            if carrier is Carrier.DATA:
                osi.data(pdu or b"")
            elif carrier is Carrier.ASSOCIATE_REQ:
                osi.associate(pdu or b"")
            elif carrier is Carrier.ASSOCIATE_RSP:
                if send.disposition == "accepted":
                    osi.accept(pdu or b"")
                else:
                    self._linger = True
                    osi.reject(pdu, permanent=send.disposition == "rejected-permanent")
            elif carrier is Carrier.RELEASE_REQ:
                osi.release(pdu)
            elif carrier is Carrier.RELEASE_RSP:
                self._linger = True
                osi.release_response(pdu)
            else:
                self._linger = True
                osi.abort(pdu)
        except (LocalError, LimitReached) as error:
            if carrier is Carrier.ABORT:
                return  # the stack has already ended by itself
            self._reason = self._reason or error
            self._engine.abort(None, now())

    def _arm(self) -> None:
        """Tell the channel which data it may open and protect by itself."""
        engine, channel, osi = self._engine, self._channel, self._osi
        context = -1 if osi is None else osi.data_context_id or 0
        self._fast_rx, self._fast_tx = engine.fast_rx, engine.fast_tx
        self._tx = engine.tx
        if self._fast_rx:
            channel.arm_rx(engine.rx, context)
        else:
            channel.disarm_rx()
        if self._fast_tx:
            channel.arm_tx(engine.tx, context, osi.tpdu_size if osi is not None else limits.OUR_TPDU_SIZE_PREFERRED)

    def _job_done(self, job: Job, error: BaseException | None) -> None:
        # run() keeps the errors of its work to itself; what comes here is a fault of fastsec or of the executor.
        try:
            self._engine.job_done(job, now())
            if error is not None:
                raise error
            if self._phase < LINGER:
                self._drain()
                if self._pause & BUSY and not self._engine.busy:
                    self._let_go(BUSY)
            if self._lost and not self._engine.busy:
                self.connection_lost(None)
        except Exception as failure:
            self._runtime.loop.call_exception_handler(
                {"message": "job of an association", "exception": failure, "protocol": self}
            )
            self._over(Aborted("local", None, "internal error"))
            if self._lost:
                self.connection_lost(None)

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

    def _call(self, callback: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return callback(self, *arguments)
        except Exception as error:
            self._handler_failed(error)
            return _FAILED

    def _handler_failed(self, error: BaseException) -> None:
        self._runtime.loop.call_exception_handler(
            {"message": "callback of an association", "exception": error, "protocol": self}
        )
        self.abort(reason="the application failed")

    def _settle(self, answer: Any, then: Callable[[Any], None]) -> None:
        """Call ``then`` with ``answer``, or with what it resolves to if it is awaitable."""
        if self._phase >= LINGER:
            if inspect.iscoroutine(answer):
                answer.close()
        elif answer is _FAILED:
            return
        elif inspect.isawaitable(answer):
            future = asyncio.ensure_future(answer, loop=self._runtime.loop)
            if future is not answer:
                self._task = future  # a coroutine, ours to cancel; a future may have others that wait for it
            future.add_done_callback(partial(self._settled, then))
        else:
            then(answer)

    def _settled(self, then: Callable[[Any], None], future: asyncio.Future[Any]) -> None:
        self._task = None
        if future.cancelled():
            self.abort(reason="the application gave up")
        elif (error := future.exception()) is not None:
            self._handler_failed(error)
        elif self._phase < LINGER:
            then(future.result())

    def _connect_transport(self, initiate: bytes) -> None:
        if self._phase >= LINGER or self._osi is None:
            return
        self.own_initiate = initiate
        self._osi.connect_transport()
        self._flush()
        self._set_due(limits.OUR_ACCEPT_TO_AARQ)

    def _indicated(self, output: AssociateIndication) -> None:
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
        self._phase = OPEN
        self._due = None
        if self._keeper is not None:
            self._keeper.opened(self)
        if self.client:
            self.peer_initiate = output.appl_data
            self.own_initiate = b""
        self._call(self._handler.associated)

    def _confirmed(self, output: Confirmed) -> None:
        if not isinstance(self._engine, PlainAssociation):
            self._engine.wakeup = None  # only unconfirmed associations are evicted by others
        self._call(self._handler.confirmed)

    def _received(self, output: Received) -> None:
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

    # --- the end ------------------------------------------------------------------------------------------------

    def _over(self, error: FastsecError | None) -> None:
        """Close the connection and tell the handler. The side that sent the last PDU lets the other close first."""
        if self._phase >= LINGER:
            return
        self._phase = LINGER
        self._fast_tx = False
        self._channel.disarm_rx()
        self.request = None
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
        transport = self._transport
        if transport is not None:
            if self._pause:
                self._pause = 0
                transport.resume_reading()
            if not self._linger:
                transport.close()
            elif not transport.is_closing():
                transport.write_eof()  # the peer has all; it closes, and what it still sends is read and dropped
        self._set_due(limits.OUR_ABORT_LINGER)
        handler, self._handler = self._handler, _NOBODY
        try:
            handler.ended(self, self._reason or error)
        except Exception as failure:
            self._runtime.loop.call_exception_handler(
                {"message": "callback of an association", "exception": failure, "protocol": self}
            )

    # --- pausing ------------------------------------------------------------------------------------------------

    def _hold(self, why: int) -> None:
        if not self._pause and self._transport is not None and self._phase < LINGER:
            self._transport.pause_reading()
        self._pause |= why

    def _let_go(self, why: int) -> None:
        if not self._pause & why:
            return
        self._pause &= ~why
        if why == BUSY and self._phase < LINGER:
            try:
                self._pump(self._go_on())
            except DecodeError as error:
                self._misframed(error)
        if not self._pause and self._transport is not None and self._phase < LINGER:
            self._transport.resume_reading()

    def _write_slowly(self, pdu: bytes) -> None:
        if self._phase != OPEN:
            raise StateError("the association is not open")
        self._engine.send(pdu, now())
        self._drain()


class _Gone(asyncio.Transport):
    """What is left of a transport when its connection is gone: writing has no effect, addresses are still known."""

    __slots__ = ("_was",)

    def __init__(self, was: asyncio.Transport) -> None:
        self._was = was

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._was.get_extra_info(name, default)


def _name_of(title: AeTitle) -> OsiName | None:
    if isinstance(title.ap_title, str) and isinstance(title.ae_qualifier, int):
        return _shared_name(title.ap_title, title.ae_qualifier)
    return None


@lru_cache(maxsize=1024)
def _shared_name(ap_title: str, ae_qualifier: int) -> OsiName | None:
    """One object for all associations of a peer: the engine keeps it as long as the association lives."""
    return OsiName.of(ap_title, ae_qualifier)


_FAILED: Final = object()
_NOBODY: Final = AssociationHandler()
_INDICATED: Final[dict[type, Callable[[Connection, Any, Instant], None]]] = {
    TransportConnected: Connection._transport_connected,
    AssociateInd: Connection._associate_ind,
    AssociateCnf: Connection._associate_cnf,
    DataInd: Connection._data_ind,
    ReleaseInd: Connection._release_ind,
    ReleaseCnf: Connection._release_cnf,
    AbortInd: Connection._abort_ind,
    ProviderAbort: Connection._provider_abort,
    EnvFault: Connection._env_fault,
}
_TOLD: Final[dict[type, Callable[[Connection, Any], None]]] = {
    AssociateIndication: Connection._indicated,
    Established: Connection._established,
    Confirmed: Connection._confirmed,
    Received: Connection._received,
    ReleaseIndication: Connection._release_asked,
    Released: Connection._released,
    Ended: Connection._ended,
    Raised: Connection._raised,
}
