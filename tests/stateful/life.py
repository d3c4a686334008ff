"""Two engines with a clock each and a link in each direction that a test holds in its hands, PDU by PDU."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import engine_pair
from engine_pair import UTC, ConnectionPair, Side
from fastsec import limits
from fastsec._core.osidata import OsiChannel
from fastsec.association import Association, Ended, Output, Raised, Received, Send
from fastsec.engine import Engine
from fastsec.errors import Aborted, LimitReached, PeerError, Rejected
from fastsec.events import CATALOGUE, DOMAIN_E2E
from fastsec.faults import Group, verdict
from fastsec.instant import Instant
from fastsec.peers import Endpoint
from fastsec.secpdu.fields import Carrier
from fastsec.state import OVER, State
from stateful.model import DROPPING, IN_DATA, Flow, Transfer, drawn

REACHED: Counter[str] = Counter()
"""How often each named situation came about, over all runs of this process."""

OLD_MS = 60_000
_state: Any = Engine.__dict__["state"]
TRANSFER_GROUPS = (Group.CLEAR_TRANSFER, Group.ENCR_TRANSFER)


class Clock:
    """The two clocks of one computer. True time comes from outside; the wall clock may step, drift and stand still."""

    def __init__(self, start_ms: int) -> None:
        self.true_ms = 0
        self.start_ms = start_ms
        self.offset_ms = 0
        self.drift = 0.0
        self.stands = False

    def pass_ms(self, ms: int) -> None:
        self.true_ms += ms
        self.offset_ms -= ms if self.stands else 0
        self.offset_ms += round(ms * self.drift)

    @property
    def now(self) -> Instant:
        return Instant(UTC + self.true_ms + self.offset_ms, self.start_ms + self.true_ms)


@dataclass(eq=False)
class Packet:
    """One PDU on a link; ``transfer`` is what its sender meant, None for handshake and control PDUs."""

    sent: Send
    transfer: Transfer | None
    to_server: bool
    born_ms: int = 0


class Watched(Association):
    """An association that shows each change of its state and each transfer as it is taken up."""

    __slots__ = ("side",)

    @property
    def state(self) -> State:
        return _state.__get__(self)

    @state.setter
    def state(self, new: State) -> None:
        try:
            old = _state.__get__(self)
        except AttributeError:
            old = new
        _state.__set__(self, new)
        assert drawn(old, new), f"{old.name} -> {new.name} is not in the diagram"
        if old is not new:
            REACHED[f"{self.role.value} {new.name}"] += 1
            self.side.pair.entered(self.side, new)

    def receive(self, carrier: Carrier, pdu: bytes | None, now: Instant, **more: Any) -> None:
        if carrier is Carrier.DATA and not self.busy and self.state not in OVER:
            self.side.pair.judge(self.side, pdu, now, lambda: Association.receive(self, carrier, pdu, now, **more))
        else:
            Association.receive(self, carrier, pdu, now, **more)


class Life(ConnectionPair):
    """One association, with its model.

    Attributes:
        links: what is under way, by to_server.
        history: all that was ever sent.
        flows: the model of each direction, by to_server.
        attacked: somebody has touched the link; only then may there be events.
        skewed: the clocks were so far apart that a time may be refused.
    """

    def __init__(self, endpoints: tuple[Endpoint, Endpoint], clocks: tuple[Clock, Clock], strict: bool) -> None:
        self.clocks = clocks
        self._at: Side | None = None
        with patch.object(engine_pair, "Association", Watched):
            super().__init__(endpoints=endpoints, accept=None)
        self.sides = (self.client, self.server)
        self.links: dict[bool, deque[Packet]] = {True: deque(), False: deque()}
        self.history: list[Packet] = []
        self.flows = {True: Flow(True), False: Flow(False)}
        self.registry: dict[bytes, Transfer] = {}
        self.strict = strict
        self.attacked = self.skewed = self.given_up = False
        self.confirmed: dict[Side, bool] = dict.fromkeys(self.sides, False)
        self.opened_ms: dict[Side, int] = {}
        self.since: dict[Side, dict[State, int]] = {side: {} for side in self.sides}
        self.plain: bytes | None = None
        self.carrier_ms = 0
        self.overdue = False
        self.late = False  # changedKey came so late that the client may end it: the fault of a slow link
        self.checked: dict[Side, int] = dict.fromkeys(self.sides, 0)
        self.awake: list[Side] = []  # other associations have caused outputs there
        for side in self.sides:
            side.association.side = side
            side.association.wakeup = partial(self.awake.append, side)
            side.hold_jobs = True
            side.auto = False
        self.on_wire = self._on_wire

    # --- clocks -----------------------------------------------------------------------------------------------------

    @property
    def now(self) -> Instant:
        return self.clock_of(self._at).now if self._at is not None else self.clocks[0].now

    @now.setter
    def now(self, value: Instant) -> None:
        pass

    def clock_of(self, side: Side) -> Clock:
        return self.clocks[0] if side is self.client else self.clocks[1]

    def entered(self, side: Side, state: State) -> None:
        self.since[side][state] = self.clock_of(side).now.mono_ms
        if state is State.OPEN:
            self.opened_ms[side] = self.clock_of(side).now.mono_ms

    # --- moving -----------------------------------------------------------------------------------------------------

    def _on_wire(self, who: str, output: Send) -> None:
        to_server = who == "client"
        flow, pdu, transfer = self.flows[to_server], output.pdu, None
        if output.carrier is Carrier.DATA:
            data, self.plain = self.plain, None
            transfer = flow.make(pdu, data)
            assert pdu not in self.registry
            self.registry[pdu] = transfer
            if transfer.rekey:
                assert to_server
                self.carrier_ms = self.clock_of(self.client).now.mono_ms
                self.overdue = False
                REACHED["carrier sent"] += 1
            if transfer.asks:
                assert not to_server
                assert not transfer.changed
                REACHED["reqRekey sent"] += 1
            if data is None:
                assert not self.strict, "a NULL transfer to a strict peer"
        elif output.carrier is Carrier.ASSOCIATE_REQ:
            flow.begin("AARQ", pdu)
        elif output.carrier is Carrier.ASSOCIATE_RSP and output.disposition == "accepted":
            flow.begin("AARE", pdu)
        packet = Packet(output, transfer, to_server, self.clocks[0].true_ms)
        self.history.append(packet)
        self.links[to_server].append(packet)

    def collect(self, side: Side) -> None:
        before, self._at = self._at, side
        try:
            super().collect(side)
            self.look(side)
        finally:
            self._at = before

    def do(self, side: Side, call: str, *facts: Any) -> None:
        """One call of the application or the adapter."""
        self._at = side
        getattr(side, call)(*facts)

    def finish(self, side: Side, index: int, *, early: bool = False) -> None:
        """One job of this side is done; not always the oldest.

        Arguments:
            early: it has run already, only word of it comes late.
        """
        self._at = side
        job = side.jobs[index % len(side.jobs)]
        if early:
            job.run()
            return
        if index % len(side.jobs):
            REACHED["job out of order"] += 1
        side.jobs.remove(job)
        job.run()
        side.association.job_done(job, self.now)
        self.collect(side)

    def note_age(self) -> None:
        """What has been on the way for minutes may be refused for its time."""
        for link in self.links.values():
            if link and link[0].born_ms < self.clocks[0].true_ms - OLD_MS:
                self.skewed = True

    def wake(self) -> None:
        """What the adapter does soon after ``wakeup``."""
        while self.awake:
            self.collect(self.awake.pop())

    def tick(self, side: Side) -> None:
        """The adapter's timer."""
        association = side.association
        mono = self.clock_of(side).now.mono_ms
        if association.deadline is not None and association.deadline <= mono:
            late = self.outstanding and mono >= self.carrier_ms + limits.OUR_CARRIER * 1000
            if late and side is self.client and association.state is State.OPEN:
                self.overdue = self.late = True
                REACHED["changedKey overdue"] += 1
            self.do(side, "tick")
            assert association.deadline is None or association.deadline > mono, "a deadline stays in the past"

    @property
    def outstanding(self) -> bool:
        """The client has sent a carrier and not yet accepted changedKey."""
        return self.flows[True].tx_epoch > self.flows[False].rx_epoch

    def send(self, side: Side, pdus: list[bytes]) -> None:
        """The application sends; by the channel's fast path where the engine allows it."""
        association = side.association
        flow = self.flows[side is self.client]
        for pdu in pdus:
            if association.state not in (State.OPEN, State.ASKED):
                return
            self.plain = pdu
            flow.sent.append(pdu)
            self._at = side
            if association.fast_tx:
                REACHED["sent by the fast path"] += 1
                self._on_wire("client" if side is self.client else "server", self._sealed(association, pdu))
                if association.tx.due:
                    self.do(side, "tick")
            else:
                REACHED["sent by the slow path"] += 1
                self.do(side, "send", pdu)
            assert self.plain is None or association.state in OVER
            if self.plain is not None:  # a limit ended the association instead
                self.plain = None
                flow.sent.pop()

    def _sealed(self, association: Association, pdu: bytes) -> Send:
        return Send(Carrier.DATA, association.tx.seal(pdu, self.now.utc_ms))

    def arrive(self, packet: Packet, *, octets: bytes | None = None, at: Side | None = None) -> None:
        """A packet comes to its end, or what somebody made of it."""
        side = at or (self.server if packet.to_server else self.client)
        sent = packet.sent if octets is None else Send(packet.sent.carrier, octets, packet.sent.disposition)
        association = side.association
        self._at = side
        fast = sent.carrier is Carrier.DATA and association.fast_rx and not association.busy
        if fast and sent.pdu and self._arrive_fast(side, sent.pdu):
            return
        self.deliver(side, sent)

    def _arrive_fast(self, side: Side, pdu: bytes) -> bool:
        """The adapter's channel with the engine's guard; False: not a regular PDU, it has to take the slow way."""
        association, now = side.association, self.now
        channel = OsiChannel(limits.OUR_TSDU_MAX)
        channel.tpdu_size = 60_000
        frame = channel.frame(pdu)
        channel.arm_rx(association.rx, -1)
        payloads = channel.feed(frame, now.utc_ms)
        waiting = channel.next()
        if payloads:
            REACHED["received by the fast path"] += 1
            self.judge(side, pdu, now, lambda: association._outputs.append(Received(payloads)))
        elif channel.fault is not None:
            REACHED["refused by the fast path"] += 1
            fault = channel.fault
            self.judge(side, pdu, now, lambda: association.transfer_fault(fault, now))
        else:
            assert waiting == (0xF0, pdu)
            return False
        self.collect(side)
        return True

    def deliver(self, to: Side, sent: Send) -> None:
        self._at = to
        super().deliver(to, sent)

    # --- the model --------------------------------------------------------------------------------------------------

    def judge(self, side: Side, pdu: bytes | None, now: Instant, take: Callable[[], None]) -> None:
        """Let the engine take a transfer, and compare what it does with what it should do."""
        association, state = side.association, side.association.state
        before = len(association._outputs)
        flow = self.flows[side is self.server]
        known = self.registry.get(pdu or b"")
        if known is None:
            should = "foreign"
        else:
            outstanding = side is self.client and self.outstanding
            should = flow.judge(known, now.utc_ms, outstanding=outstanding, overdue=outstanding and self.overdue)
        take()
        new = association._outputs[before:]
        events = [output.event for output in new if isinstance(output, Raised)]
        got = [pdu for output in new if isinstance(output, Received) for pdu in output.pdus]
        what = f"{side.association!r} was {state.name}, should: {should or 'accept'}, events {events}, got {got}"
        if state in DROPPING:
            assert not got, what
            assert [event.id for event in events] in ([self._id(group, "protocol-error")] for group in TRANSFER_GROUPS)
            assert association.state is state, what
            REACHED["transfer after ReleaseReq dropped"] += 1
        elif state not in IN_DATA:
            assert not got, what
            assert len(events) == 1, what
            assert association.state in OVER, what
        elif should:
            assert not got, what
            if should == "foreign":
                assert len(events) == 1, what
                assert events[0].id.split(":")[1].split(".")[0] in ("10", "11"), what
            else:
                ids = {self._id(group, should) for group in TRANSFER_GROUPS}
                assert events, what
                assert {event.id for event in events} <= ids, what
            assert association.state is State.ENDING, what
            REACHED[f"fault {should}"] += 1
        else:
            assert not events, what
            assert got == ([] if known.data is None else [known.data]), what
            self._accepted(side, flow, known)
        side.events_seen = getattr(side, "events_seen", 0) + len(events)

    def _id(self, group: Group, check: str) -> str:
        return CATALOGUE[DOMAIN_E2E, group, verdict(group, check).number].id

    def _accepted(self, side: Side, flow: Flow, pdu: Transfer) -> None:
        flow.accept(pdu)
        if not self.confirmed[side]:
            self.confirmed[side] = True
            REACHED["confirmed"] += 1
        if pdu.changed:
            self.overdue = False
            REACHED["changedKey accepted"] += 1
        if pdu.rekey:
            REACHED["carrier accepted"] += 1
            state = side.association.state
            if state is not State.OPEN:
                REACHED["carrier accepted during release"] += 1

    def look(self, side: Side) -> None:
        """After each step of a side."""
        association = side.association
        flow = self.flows[side is self.server]
        assert side.received == flow.delivered, (side.received, flow.delivered)
        sent = self.flows[side is self.server].sent
        assert flow.delivered == sent[: len(flow.delivered)] or self.attacked
        assert association.confirmed == self.confirmed[side] or association.state in OVER
        state = association.state
        if state in IN_DATA:
            assert association.tx is not None
            assert association.rx is not None
        else:
            assert association.tx is None
            assert association.rx is None
            assert not association.fast_tx
            assert not association.fast_rx
        if state is State.ENDED:
            assert association.deadline is None
            assert side.ended
        elif side.ended:
            raise AssertionError("Ended, but not over")
        elif state is not State.READY and state is not State.LISTENING:
            assert association.deadline is not None, association
        for output in side.outputs[self.checked[side] :]:
            self._look_at(side, output)
        self.checked[side] = len(side.outputs)

    def _look_at(self, side: Side, output: Output) -> None:
        if isinstance(output, Raised):
            assert self.attacked or self.skewed or self.late, f"an event between honest sides: {output.event}"
            REACHED[f"event {output.event.severity}"] += 1
        elif isinstance(output, Ended):
            self._justify(side, output.error)

    def _justify(self, side: Side, error: Any) -> None:
        """Nothing ends by itself but for a reason that the model knows too."""
        if error is None:
            REACHED["released"] += 1
            assert State.RELEASING in self.since[side] or State.ASKED in self.since[side]
            if State.CROSSED in self.since[side]:
                REACHED["crossed release completed"] += 1
            return
        touched = self.attacked or self.skewed or self.given_up or self.late
        REACHED[f"ended {type(error).__name__}"] += 1
        if isinstance(error, LimitReached):
            self._justify_limit(side, error)
        elif isinstance(error, Rejected):
            assert touched or error.side in ("local", "peer", "provider")
        elif isinstance(error, PeerError):
            assert touched, error
        else:
            assert isinstance(error, Aborted), error
            if "in time" in error.reason:
                waited = self.clock_of(side).now.mono_ms - min(self.since[side].values())
                assert waited >= limits.OUR_RELEASE * 1000, error
                self.given_up = True

    def _justify_limit(self, side: Side, error: LimitReached) -> None:
        mono = self.clock_of(side).now.mono_ms
        age = mono - self.opened_ms.get(side, mono)
        REACHED[f"limit {error.limit}"] += 1
        self.given_up = True
        if error.limit == "OUR_UNCONFIRMED_TIMEOUT":
            assert not self.confirmed[side]
            assert age >= limits.OUR_UNCONFIRMED_TIMEOUT * 1000
        elif error.limit == "OUR_UNCONFIRMED_PER_PEER":
            assert not self.confirmed[side]
        else:
            assert error.limit in ("OUR_REKEY_GRACE", "OUR_REKEY_OUTSTANDING_MAX"), error
            assert age >= 900_000
