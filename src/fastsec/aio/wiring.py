"""What a connection is made of, and what it does for its engine: outputs carried out, deadlines, pausing, the end."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from fastsec import limits
from fastsec._core.osidata import OsiChannel
from fastsec.aio.events import default_sink
from fastsec.aio.handler import AssociationHandler
from fastsec.aio.meter import Meter, meter_or_default
from fastsec.aio.plain import PlainAssociation
from fastsec.aio.runtime import Runtime
from fastsec.envs.osi import AssociateInd, OsiEndpoint, OsiParams
from fastsec.errors import Aborted, FastsecError, LimitReached, LocalError, StateError
from fastsec.instant import now
from fastsec.outputs import Job, KeysChanged, Output, Raised, Run, Send
from fastsec.secpdu.fields import Carrier

if TYPE_CHECKING:
    from fastsec._core.guard import SealGuard
    from fastsec.aio.connection import Connection
    from fastsec.association import Association
    from fastsec.events import EventSink

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

    def late(self, connection: Connection) -> None:
        """It did not ask for an association in time and is being closed."""


class Wiring(asyncio.Protocol):
    """The base of ``Connection``. ``Receiving`` and ``Connection`` fill in what raises NotImplementedError."""

    __slots__ = (
        "_channel", "_due", "_engine", "_fast_rx", "_fast_tx", "_handler", "_keep", "_keeper",
        "_linger", "_lost", "_meter", "_news", "_osi", "_patient", "_pause", "_phase", "_reason", "_runtime", "_sink",
        "_slot", "_task", "_telling", "_transport", "_tx", "_updates", "can_write", "client", "context", "own_initiate",
        "peer_initiate", "request",
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
        meter: Meter | None = None,
    ) -> None:
        self._runtime = runtime
        self._handler = handler
        self._engine = engine
        if isinstance(engine, PlainAssociation):
            engine.on_wakeup(self._wakened)
        else:
            engine.wakeup = self._wakened
        self._meter = meter_or_default(meter)
        self._channel = OsiChannel(limits.OUR_TSDU_MAX, self._meter.traffic)
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
        self.can_write = True
        self._fast_rx = self._fast_tx = False
        self._tx: SealGuard | None = None
        self._updates = 0
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

    @property
    def peer_address(self) -> str:
        """Host and port of the TCP peer, empty if there is none."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""

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
            if self._keeper is not None:
                self._keeper.late(cast("Connection", self))
            waited = "the transport connection" if self.client else "the association request"
            self.abort(reason=f"{waited} did not come in time")
        elif self._phase < LINGER:
            self._engine.tick(at)
            self._drain()

    def recheck(self) -> None:
        """What is known about revocation has changed: the engine looks at the peer's certificates again, soon."""
        look = getattr(self._engine, "recheck", None)
        if look is not None and self._phase < LINGER:
            look(now())
            self._retime()

    def _tick(self) -> None:
        self._engine.tick(now())
        self._drain()

    # --- what the engine wants ----------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Carry out the engine's outputs: all that touches the wire first, then the news to the handler.

        So a handler that writes from within a callback never overtakes a PDU the engine has already protected. Jobs
        come last: a thread that is woken earlier only waits until this one lets go of the interpreter.
        """
        if self._phase >= LINGER:
            return
        engine = self._engine
        jobs: list[Job] = []
        try:
            outputs = engine.outputs()
            while outputs:
                for output in outputs:
                    kind = type(output)
                    if kind is Send:
                        self._carry(cast("Send", output))
                    elif kind is KeysChanged:
                        self._arm()
                    elif kind is Run:
                        jobs.append(cast("Run", output).job)
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
        finally:
            for job in jobs:
                self._runtime.jobs.submit(job, self._job_done, urgent=self._phase == OPEN)

    def _flush(self) -> None:
        if self._osi is not None and self._transport is not None:
            octets = self._osi.data_to_send()
            if octets:
                self._meter.traffic.frames_out += len(octets)
                self._transport.write(octets)

    def _carry(self, send: Send) -> None:
        osi, carrier, pdu = self._osi, send.carrier, send.pdu
        if osi is None or osi.closed:  # the peer has ended it; what is still being verified tells the engine how
            return
        try:
            if carrier is Carrier.DATA:
                osi.data(pdu or b"")
            elif carrier is Carrier.ASSOCIATE_REQ:
                osi.associate(pdu or b"", send.proof)
            elif carrier is Carrier.ASSOCIATE_RSP:
                if send.disposition == "accepted":
                    osi.accept(pdu or b"", send.proof)
                else:
                    self._linger = True
                    osi.reject(pdu, permanent=send.disposition == "rejected-permanent")
            elif carrier is Carrier.RELEASE_REQ:
                osi.release(pdu)
            elif carrier is Carrier.RELEASE_RSP:
                self._linger = True
                osi.release_response(pdu)
            elif send.disposition == "provider-abort":
                self._linger = True
                osi.provider_abort()
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
        if not isinstance(engine, PlainAssociation) and engine.key_updates != self._updates:
            self._meter.key_updates += engine.key_updates - self._updates
            self._updates = engine.key_updates
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

    def _wakened(self) -> None:
        """Another association, in a call of its own, has caused outputs of this one's engine."""
        self._runtime.loop.call_soon(self._drain)

    def _tell(self) -> None:
        """Tell the handler the news."""
        raise NotImplementedError

    def _let_go(self, why: int) -> None:
        """Take back one reason of ``_hold``."""
        raise NotImplementedError

    # --- calling the handler ---------------------------------------------------------------------------------

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

    # --- the end ------------------------------------------------------------------------------------------------

    def _over(self, error: FastsecError | None) -> None:
        """Close the connection and tell the handler. The side that sent the last PDU lets the other close first."""
        if self._phase >= LINGER:
            return
        phase, self._phase = self._phase, LINGER
        self._fast_tx = False
        self._channel.disarm_rx()
        self._end_engine()
        self.request = None
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
        transport = self._transport
        if phase == OPENING and transport is not None:  # it is the TLS layer
            self._meter.fail_tls_handshake(self._reason or error)
        self._meter.end_association(cast("Connection", self), phase == OPEN, self._reason or error)
        if transport is not None:
            if self._pause:
                self._pause = 0
                transport.resume_reading()
            if not self._linger:
                transport.close()
            elif not transport.is_closing():
                try:
                    transport.write_eof()  # the peer has all; it closes, and what it still sends is read and dropped
                except OSError:
                    transport.abort()  # it has reset the connection
        self._set_due(limits.OUR_ABORT_LINGER)
        handler, self._handler = self._handler, _NOBODY
        try:
            handler.ended(cast("Connection", self), self._reason or error)
        except Exception as failure:
            self._runtime.loop.call_exception_handler(
                {"message": "callback of an association", "exception": failure, "protocol": self}
            )

    def _end_engine(self) -> None:
        """However it came to the end, the engine has to give back what is shared: numbers, places, keys."""
        try:
            self._engine.connection_lost(now())
            for output in self._engine.outputs():
                if type(output) is Raised:
                    self._sink(output.event)
            if self._keep is not None:
                self._keep()
        except Exception as error:
            self._runtime.loop.call_exception_handler(
                {"message": "end of an association", "exception": error, "protocol": self}
            )
        if not isinstance(self._engine, PlainAssociation):
            self._engine.wakeup = None  # a circle, else

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

    def cut(self, reason: str = "the connection was cut") -> None:
        """Drop the TCP connection now; what is queued is lost. For a shutdown that cannot wait."""
        if self._phase < LINGER:
            self._over(Aborted("local", None, reason))
        if self._transport is not None:
            self._transport.abort()

    # --- pausing ------------------------------------------------------------------------------------------------

    def _hold(self, why: int) -> None:
        if not self._pause and self._transport is not None and self._phase < LINGER:
            self._transport.pause_reading()
        self._pause |= why


class Gone(asyncio.Transport):
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


_FAILED: Final = object()
_NOBODY: Final = AssociationHandler()
