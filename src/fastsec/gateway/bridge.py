"""One association carried through: a plain one on the near side, a secured one on the far side, octets in between.

The initiate-Request of the side that comes in opens the other side; its answer answers the first. Then each list of
PDUs read on one side is written to the other as it is. Release, abort and loss on one side become the same on the
other. Nothing of one bridge is known to another, so a failure stays where it is.

==========================  ==================================================================
on one side                 on the other
==========================  ==================================================================
initiate-Request            connection, then the same initiate-Request
initiate-Response           accepted with it
reject, with initiate-Error rejected in the same way (permanent or transient), with the same PDU
refused, not reachable      rejected, with an initiate-Error that says so
data, conclude              data
release                     release; answered when the other side has answered
ABRT, security abort, loss  abort
loss after conclude         release
==========================  ==================================================================
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

from fastsec import limits
from fastsec.aio.handler import AssociationHandler, Reject
from fastsec.aprofile import subject_text
from fastsec.errors import (
    Aborted,
    ConfigError,
    FastsecError,
    LimitReached,
    LocalError,
    PeerError,
    Rejected,
    StateError,
)
from fastsec.gateway.words import about
from fastsec.mms import pdu as mms
from fastsec.pki.identity import OsiName

if TYPE_CHECKING:
    from fastsec.aio.connection import Connection
    from fastsec.gateway.logs import Log

PEER_EXPIRY_DAYS: Final = 30
STALL: Final = 60.0  # seconds in which a peer has to take at least something while we wait for it

Opener = Callable[["Bridge"], Awaitable[None]]

CONCLUDE_RESPONSE: Final = b"\x8c"  # its first octet

PLAIN: Final = "plain"
SECURED: Final = "secured"


class End(AssociationHandler):
    """One side of a bridge.

    Arguments:
        side: ``plain`` or ``secured``.
        bridge: the two sides together; None while a dialled-in connection waits to be needed.

    Attributes:
        connection: of this side, once there is one.
        other: connection of the other side while both are open.
        answer: for the side the gateway opens: the initiate-Response, or why there is none.
        over: this side has ended.
        count: PDUs received.
    """

    __slots__ = (
        "_bridge", "_clogged", "_early", "_held", "answer", "connection", "count", "ended_at", "other", "over", "side",
    )  # fmt: skip

    def __init__(self, side: str, bridge: Bridge | None = None) -> None:
        self.side = side
        self._bridge = bridge
        self.connection: Connection | None = None
        self.other: Connection | None = None
        self.answer: asyncio.Future[bytes] | None = None
        self.ended_at: asyncio.Future[None] | None = None
        self.over = False
        self.count = 0
        self._early: list[bytes] = []
        self._held: asyncio.TimerHandle | None = None
        self._clogged = False

    @property
    def bridge(self) -> Bridge:
        """The two sides together. StateError where this one still waits."""
        if self._bridge is None:
            raise StateError("this side is not joined to another yet")
        return self._bridge

    # --- data: once per read ---------------------------------------------------------------------------------------
    def pdus_received(self, assoc: Connection, pdus: list[bytes]) -> None:
        """Write what one side received to the other."""
        other = self.other
        if other is None:
            self._wait_for_other(assoc, pdus)
            return
        count = len(pdus)
        self.count += count
        if pdus[-1][:1] == CONCLUDE_RESPONSE:  # from now on a closed connection is an orderly end
            self.bridge.concluded = True
        try:
            if count == 1:
                other.write(pdus[0])
            else:
                other.write_many(pdus)
        except FastsecError as error:
            self.bridge.unwritable(self, pdus, error)
            return
        if not other.can_write:
            assoc.pause_reading()
            self.bridge.hold(self)

    def resumed(self, assoc: Connection) -> None:
        """This side takes data again: read the other side again."""
        if self._clogged:
            self._clogged = False
            if self.other is not None and self.other.can_write:
                assoc.resume_reading()
        self.bridge.let_go(self)

    def _wait_for_other(self, assoc: Connection, pdus: list[bytes]) -> None:
        if not self.over:
            self._early += pdus
            assoc.pause_reading()

    def join(self, other: Connection) -> None:
        """Both sides are open: relay from now on, first what came too early."""
        self.other = other
        early, self._early = self._early, []
        if self.connection is not None:
            if early:
                self.pdus_received(self.connection, early)
            if other.can_write:
                self.connection.resume_reading()

    def belong(self, bridge: Bridge) -> None:
        """From now on a side of ``bridge``."""
        self._bridge = bridge

    def tally(self) -> dict[str, int]:
        """What the last line of the association counts."""
        return {f"from_{self.side}": self.count}

    # --- life ------------------------------------------------------------------------------------------------------
    def initiate(self, assoc: Connection) -> bytes | Awaitable[bytes]:
        """The side the gateway opens: the initiate-Request of the side that came in."""
        return self.bridge.request

    def association_requested(self, assoc: Connection, appl_data: bytes) -> Reject | Awaitable[bytes | Reject]:
        """The side that comes in asks for an association: open the other."""
        self.connection = assoc
        return self.bridge.open(self, appl_data)

    def associated(self, assoc: Connection) -> None:
        """This side is open."""
        self.connection = assoc
        if self.answer is None:
            self.bridge.opened()
        elif not self.answer.done():
            self.answer.set_result(assoc.initiate_response)

    def confirmed(self, assoc: Connection) -> None:
        """The far side has proved itself in full."""
        self.bridge.log.debug("the peer is confirmed")
        if self.bridge.watch is not None:
            self.bridge.watch(assoc, True, None)

    def release_requested(self, assoc: Connection) -> Awaitable[None] | None:
        """This side wants to release: release the other, then answer."""
        return self.bridge.release_other(self)

    def ended(self, assoc: Connection, error: FastsecError | None) -> None:
        """This side is over."""
        self.over = True
        self.connection = assoc
        self.unhold()
        if self.side == SECURED and self._bridge is not None and self._bridge.watch is not None:
            self._bridge.watch(assoc, False, error)
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error or Aborted("peer", None, "ended before it was open"))
        if self.ended_at is not None and not self.ended_at.done():
            self.ended_at.set_result(None)
        if self._bridge is not None:
            self._bridge.closed(self, error)

    def leave(self) -> None:
        """All is over: forget the bridge."""
        self._bridge = None

    def clog(self, assoc: Connection) -> None:
        """This side does not take what it is answered by the gateway itself: read nothing more of it until it does."""
        self._clogged = True
        assoc.pause_reading()
        self.start_hold()

    def read_on(self) -> None:
        """The other side takes data again."""
        if self.connection is not None and self.other is not None and not self.over and not self._clogged:
            self.connection.resume_reading()

    # --- stalls ----------------------------------------------------------------------------------------------------
    def start_hold(self) -> None:
        """This side's peer takes less than comes: watch that it takes something at all."""
        if self._held is None:
            self._watch(self._waiting_octets())

    def _watch(self, octets: int) -> None:
        self._held = asyncio.get_running_loop().call_later(STALL, self._look_again, octets)

    def _look_again(self, before: int) -> None:
        octets = self._waiting_octets()
        if octets < before:
            self._watch(octets)
        else:
            self._held = None
            self.bridge.stalled(self)

    def _waiting_octets(self) -> int:
        transport = self.connection.transport if self.connection is not None else None
        return transport.get_write_buffer_size() if transport is not None else 0

    def unhold(self) -> None:
        """It takes data again, or all is over."""
        if self._held is not None:
            self._held.cancel()
            self._held = None


class Bridge:
    """The two sides of one association.

    Attributes:
        request: the initiate-Request, while the other side is being opened.
        concluded: a conclude-Response was relayed.
        watch: told when the secured side is confirmed (True), and of its end (False) with its error; or None.

    Arguments:
        incoming: handler of the side that comes in.
        open_other: given the bridge, opens the other side with a handler of ``outgoing_end``; returns when its
            transport stands; raises OSError or FastsecError.
        within: seconds for that and for the answer.
        log: with the route and a number.
        done: called once when both sides are over.
        turn: entered while the other side is being opened and answers.
    """

    __slots__ = (
        "_done", "_first", "_joined", "_open_other", "_rejecting", "_releasing", "_turn", "_within", "concluded",
        "incoming", "log", "outgoing", "request", "watch",
    )  # fmt: skip

    def __init__(
        self,
        incoming: End,
        open_other: Opener,
        within: float,
        log: Log,
        done: Callable[[Bridge], None],
        turn: AbstractAsyncContextManager[None],
    ) -> None:
        self.incoming = incoming
        incoming.belong(self)
        self._within = within
        self.outgoing: End | None = None
        self.request = b""
        self.concluded = False
        self.watch: Callable[[Connection, bool, FastsecError | None], None] | None = None
        self.log = log
        self._open_other = open_other
        self._done: Callable[[Bridge], None] | None = done
        self._first: tuple[str, FastsecError | None] | None = None
        self._releasing = False
        self._turn = turn
        self._joined = False
        self._rejecting = False

    @property
    def both_open(self) -> bool:
        """Data is relayed."""
        return self.incoming.other is not None

    def peer_of(self, end: End) -> End | None:
        """The other side."""
        return self.outgoing if end is self.incoming else self.incoming

    # --- opening ---------------------------------------------------------------------------------------------------
    async def open(self, end: End, initiate: bytes) -> bytes | Reject:
        """Open the other side; its answer is this side's."""
        self.request = initiate
        source = end.connection.peer_address if end.connection is not None else ""
        if end.side == SECURED:
            self._meet(end)
        if not mms.is_initiate_request(initiate):
            self.log.warning("the association request carries no MMS initiate-Request; refused", source=source)
            return Reject(mms.initiate_error("no MMS initiate-Request"))
        try:
            async with asyncio.timeout(self._within):
                async with self._turn:
                    response = await self._ask_other()
            self.request = b""
        except asyncio.CancelledError:
            # The side that came in has left meanwhile.
            self._abandon()
            side, why = self._first or (end.side, None)
            if self.outgoing is not None and why is not None:
                words = f"no association: {ending(side, why)} before the {self._other_side} had answered"
                self.log.warning(words, source=source)
            raise
        except TimeoutError:
            error = Aborted("provider", None, f"no answer within {self._within:g} s")
            return self._refuse(error, source)
        except OSError as error:
            return self._refuse(Aborted("provider", None, f"not reachable: {error.strerror or error}"), source)
        except FastsecError as error:
            return self._refuse(error, source)
        if not mms.is_initiate_response(response):
            self._abandon()
            self.log.warning(
                f"the {self._other_side} accepted without an MMS initiate-Response; refused", source=source
            )
            return Reject(response if mms.is_initiate_error(response) else mms.initiate_error("no initiate-Response"))
        return response

    @property
    def _other_side(self) -> str:
        return "plain server" if self.incoming.side == SECURED else "far gateway"

    def outgoing_end(self) -> End:
        """A handler for the side that is to be opened."""
        return self.adopt(End(PLAIN if self.incoming.side == SECURED else SECURED))

    def adopt(self, end: End) -> End:
        """Take ``end``, which waited for a use, as the side that is to be opened."""
        end.belong(self)
        end.answer = asyncio.get_running_loop().create_future()
        self.outgoing = end
        return end

    def _meet(self, end: End) -> None:
        """The far side has proved who it is: name it in the log."""
        peer = end.connection.peer if end.connection is not None else None
        if peer is None:
            return
        names = map(str, map(OsiName.from_oid, peer.names))
        name = min(names, default="") or subject_text(peer.certificate.subject)
        self.log = self.log.having(peer=name)
        left = peer.not_after_ms / 1000 - time.time()
        if left <= PEER_EXPIRY_DAYS * 86400:
            self.log.daily(f"the certificate of {name}, or of its authority, expires in {about(left)}")

    async def _ask_other(self) -> bytes:
        """Open the other side and wait for its answer; again if only the association number was taken (62351-4)."""
        attempts = 1 + limits.OUR_ASSO_RETRIES
        while True:
            await self._open_other(self)
            out = self.outgoing
            if out is None or out.answer is None:
                raise Aborted("local", None, "the gateway has no connection for it")
            try:
                return await out.answer
            except FastsecError:
                attempts -= 1
                if not attempts or out.connection is None or not out.connection.may_retry:
                    raise

    def _abandon(self) -> None:
        out = self.outgoing
        if out is None:
            return
        if out.answer is not None and not out.answer.cancel() and not out.answer.cancelled():
            out.answer.exception()  # seen
        if out.connection is not None and not out.over:
            out.connection.abort(reason="the other side has ended")

    def _refuse(self, error: FastsecError, source: str) -> Reject:
        """The other side cannot be opened: say it in MMS to the one that asked, and in words to the operator."""
        self._abandon()
        where = self._other_side
        if isinstance(error, Rejected):
            kind = "transient" if error.transient else "permanent"
            self.log.warning(f"the {where} refused the association ({kind}): {error.reason}", source=source)
            return Reject(error.appl_data or mms.initiate_error(f"refused by the {where}"), error.transient)
        if isinstance(error, Aborted | LimitReached):
            self.log.warning(f"no association with the {where}: {_reason(error)}", source=source)
            return Reject(mms.initiate_error(f"no association with the {where}"), True)
        self.log.error(f"no association with the {where}: {_reason(error)}", source=source)
        return Reject(mms.initiate_error(f"the {where} was not accepted"), False)

    def opened(self) -> None:
        """The side that came in is open, the other has been so before: join them."""
        incoming, outgoing = self.incoming, self.outgoing
        if outgoing is None or outgoing.over or outgoing.connection is None or incoming.connection is None:
            if incoming.connection is not None:
                incoming.connection.abort(reason="the other side has ended")
            return
        self._joined = True
        self._first = None
        if outgoing.side == SECURED:
            self._meet(outgoing)
        self.log.info("association open", source=incoming.connection.peer_address)
        incoming.join(outgoing.connection)
        outgoing.join(incoming.connection)

    # --- data that cannot go on ------------------------------------------------------------------------------------
    def unwritable(self, end: End, pdus: list[bytes], error: FastsecError) -> None:
        """What ``end`` received could not be written to the other side; nothing of it was.

        A plain peer that sends something that is no MMS PDU is answered as an MMS peer would: with a RejectPDU.
        """
        if isinstance(error, StateError):
            return  # the other side has just ended; its end comes here by itself
        connection, other = end.connection, end.other
        if connection is None or other is None:
            return
        words = f"data of the {end.side} peer could not be sent on: {error}"
        good = [pdu for pdu in pdus if mms.is_one_pdu(pdu)]
        if isinstance(error, LocalError) and len(good) < len(pdus):
            words = f"the {end.side} peer sent something that is no MMS PDU"
            if end.side == PLAIN:
                if not self._rejecting:
                    self._rejecting = True
                    self.log.warning(f"{words}; it gets an MMS reject")
                try:
                    for pdu in pdus:
                        if not mms.is_one_pdu(pdu):
                            connection.write(mms.reject_for(pdu))
                    if good:
                        other.write_many(good)
                except FastsecError as again:
                    words = f"{words}: {again}"
                else:
                    if not connection.can_write:
                        end.clog(connection)
                    if not other.can_write:
                        connection.pause_reading()
                        self.hold(end)
                    return
        self.log.error(f"{words}; the association is ended")
        connection.abort(reason="its data could not be sent on")

    def hold(self, end: End) -> None:
        """The other side of ``end`` takes nothing for now; reading ``end`` is paused."""
        other = self.peer_of(end)
        if other is not None:
            other.start_hold()

    def let_go(self, end: End) -> None:
        """``end`` takes data again."""
        end.unhold()
        other = self.peer_of(end)
        if other is not None:
            other.read_on()

    def stalled(self, end: End) -> None:
        """The peer of ``end`` has taken nothing for long."""
        self.log.error(f"the {end.side} peer has taken no data for {STALL:.0f} s; the association is ended")
        if end.connection is not None:
            end.connection.abort(reason="the peer takes no data")

    # --- release ---------------------------------------------------------------------------------------------------
    def release_other(self, end: End) -> Awaitable[None] | None:
        """``end`` asks for release: hand it on; the result is waited for before the answer.

        After conclude both peers have agreed on the end already: the answer need not wait.
        """
        other = self.peer_of(end)
        if self._releasing or other is None or other.over or other.connection is None:
            return None
        self._releasing = True
        try:
            other.connection.release()
        except StateError:
            return None
        if self.concluded:
            return None
        other.ended_at = asyncio.get_running_loop().create_future()
        return other.ended_at

    def release(self) -> None:
        """Release both sides, for a gateway that is going down; what is not open yet is given up."""
        self._releasing = True
        for end in (self.outgoing, self.incoming):
            if end is None or end.over or end.connection is None:
                continue
            try:
                end.connection.release()
            except StateError:
                end.connection.abort(reason="the gateway is going down")

    def abort(self, reason: str) -> None:
        """End both sides at once."""
        for end in (self.outgoing, self.incoming):
            if end is not None and end.connection is not None and not end.over:
                end.connection.abort(reason=reason)

    def forget(self) -> None:
        """The side that was to come in never came: a connection that could not be dialled."""
        done, self._done = self._done, None
        if done is not None:
            done(self)

    # --- end -------------------------------------------------------------------------------------------------------
    def closed(self, end: End, error: FastsecError | None) -> None:
        """One side is over: end the other in the same way."""
        if self._first is None:
            self._first = (end.side, error)
        other = self.peer_of(end)
        end.other = None
        if other is not None:
            other.other = None
            # While the other side is being opened, its failure is told to the side that came in by ``open``.
            opening = end is self.outgoing and not self._joined
            if not other.over and other.connection is not None and not opening:
                self._end_other(other.connection, error)
        if end.over and (other is None or other.over or other.connection is None):
            self._finish()

    def _end_other(self, connection: Connection, error: FastsecError | None) -> None:
        lost = isinstance(error, Aborted) and error.side == "provider"
        if (error is None or (lost and self.concluded)) and connection.is_open:
            try:
                if not self._releasing:
                    connection.release()
                return
            except StateError:
                pass
        elif error is None and self._releasing:
            return  # its own release is under way and has its own time limit
        connection.abort(reason="the other side has ended")

    def _part(self) -> list[End]:
        """The sides, which soon know no bridge any more: so nothing of an association waits for the collector."""
        ends = [end for end in (self.incoming, self.outgoing) if end is not None]
        loop = asyncio.get_running_loop()
        for end in ends:
            loop.call_soon(end.leave)
        return ends

    def _finish(self) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        side, error = self._first or ("", None)
        if not self._joined:
            if error is not None and (self.outgoing is None or side == self.incoming.side):
                came = self.incoming.connection
                ours = isinstance(error, Aborted) and error.side == "local"  # our key's token, say
                tell = self.log.warning if ours else self.log.info
                tell(f"no association: {ending(side, error)}", source=came.peer_address if came else "")
            self._part()
            done(self)
            return
        ends = self._part()
        counts = {name: count for end in ends for name, count in end.tally().items()}
        counts["key_updates"] = sum(end.connection.key_updates for end in ends if end.connection is not None)
        if error is None or (self.concluded and isinstance(error, Aborted) and error.side == "provider"):
            self.log.info("association released", **counts)
        else:
            self.log.warning(f"association ended: {ending(side, error)}", **counts)
        done(self)


def ending(side: str, error: FastsecError) -> str:
    """Why an association ended, in words: which side it was and what it did.

    Arguments:
        side: ``plain`` or ``secured``, the side that ended first.
    """
    if isinstance(error, Aborted):
        who = {
            "peer": f"the {side} peer aborted it",
            "local": f"this gateway aborted it on the {side} side",
            "provider": f"the connection of the {side} side was lost",
        }.get(error.side, f"{error.side} aborted it")
        return f"{who} ({error.reason})"
    if isinstance(error, PeerError):
        return f"the {side} peer broke a rule ({error})"
    return f"{error} on the {side} side"


def _reason(error: FastsecError) -> str:
    if isinstance(error, Aborted):
        return error.reason
    if isinstance(error, ConfigError):
        return f"configuration: {error}"
    return str(error)
