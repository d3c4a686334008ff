"""An engine against the independent reference, as client and as server: what one writes the other must understand.

The reference raises on anything wrong, so an engine that deviates fails here even where two engines would agree.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import pytest
from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine_pair import INITIATE, RESPONSE
from fastsec.association import (
    AssociateIndication,
    Ended,
    Established,
    Output,
    Raised,
    Received,
    ReleaseIndication,
    Role,
    Run,
    Send,
)
from fastsec.errors import Aborted, PeerError
from fastsec.instant import Instant
from fastsec.secpdu.fields import Carrier
from fastsec.state import OVER, State
from reference.secpdu import NULL
from reference.test_against_engine import CASES, Cross
from reference.tlv import Fault
from reference.transfer import Opened
from stateful.life import REACHED
from stateful.noted import NotedSecrets

NAMES = {Carrier.ABORT: "ABRT", Carrier.RELEASE_REQ: "RLRQ", Carrier.RELEASE_RSP: "RLRE"}
SIZES = st.lists(st.sampled_from((2, 2, 3, 40, 200, 5000)), min_size=1, max_size=4)
SELDOM = st.sampled_from((False, False, False, False, True))
REST_MS = 61_000


class Late(Cross):
    """An engine whose jobs are done when the test says so."""

    def __init__(self, *facts: Any) -> None:
        super().__init__(*facts)
        self.jobs: deque[Any] = deque()

    def _drain(self) -> Any:
        while found := self.engine.outputs():
            for output in found:
                if isinstance(output, Run):
                    self.jobs.append(output.job)
                else:
                    yield output


class ReferenceMachine(RuleBasedStateMachine):
    """One association; the reference's application is this class."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets = NotedSecrets()
        self.secrets.__enter__()
        self.to_engine: deque[tuple[Carrier, bytes]] = deque()
        self.to_peer: deque[Send] = deque()
        self.sent_by_engine: list[bytes] = []
        self.sent_by_peer: list[bytes] = []
        self.got_by_engine: list[bytes] = []
        self.got_by_peer: list[bytes] = []
        self.history: list[bytes] = []
        self.number = 0
        self.peer_state = "open"
        self.peer_error = ""
        self.faulty = False
        self.peer_offset = 0
        self.changed_ms: int | None = None
        self.updates = 0

    @initialize(role=st.sampled_from(list(Role)), case=st.sampled_from(CASES), idle=st.booleans())
    def begin(self, role: Role, case: Any, idle: bool) -> None:
        self.cross = Late(role, *case)
        self.engine, self.peer = self.cross.engine, self.cross.peer
        event(f"engine as {role.value}, {case[0].mode}")
        REACHED[f"reference: engine as {role.value}"] += 1
        if role is Role.CLIENT:
            self.do("start", INITIATE)
            self.work()
            assert self.peer.take_handshake(self.to_peer.popleft().pdu, self.utc) == INITIATE
            self.take(Carrier.ASSOCIATE_RSP, self.peer.accept(RESPONSE, self.utc))
            self.work()
        else:
            self.take(Carrier.ASSOCIATE_REQ, self.peer.start(INITIATE, self.utc))
            self.work()
            self.do("accept", RESPONSE)
            self.work()
            assert self.peer.take_handshake(self.to_peer.popleft().pdu, self.utc) == RESPONSE
        assert [o for o in self.cross.outputs if isinstance(o, Established)]
        assert self.engine.asso_id == self.peer.asso_id
        if not idle:
            self.peer_sends([2])
            self.engine_sends([2])
            self.settle()

    # --- the engine's side ------------------------------------------------------------------------------------------

    @property
    def utc(self) -> int:
        """The reference's clock."""
        return self.cross.now.utc_ms + self.peer_offset

    def do(self, call: str, *facts: Any, **more: Any) -> None:
        self.look(self.cross.do(call, *facts, **more))

    def take(self, carrier: Carrier, pdu: bytes) -> None:
        self.look(self.cross.give(carrier, pdu))

    def look(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Send():
                    self.to_peer.append(output)
                case Received(pdus):
                    self.got_by_engine += pdus
                case Raised(event=raised):
                    assert self.faulty, f"an event between honest sides: {raised}"
                    REACHED["reference: event"] += 1
                case AssociateIndication(appl_data=data):
                    assert data == INITIATE

    def work(self, index: int = 0) -> None:
        while self.cross.jobs:
            self.finish(index)

    def finish(self, index: int) -> None:
        job = self.cross.jobs[index % len(self.cross.jobs)]
        self.cross.jobs.remove(job)
        job.run()
        self.do("job_done", job)

    def data(self, size: int) -> bytes:
        self.number += 1
        body = self.number.to_bytes(4, "big") + bytes(max(size - 4, 0))
        return b"\xa0\x84" + len(body).to_bytes(4, "big") + body

    @property
    def alive(self) -> bool:
        return self.engine.state not in OVER

    @rule(sizes=SIZES)
    def engine_sends(self, sizes: list[int]) -> None:
        for size in sizes:
            if self.engine.state in (State.OPEN, State.ASKED):
                pdu = self.data(size)
                self.sent_by_engine.append(pdu)
                self.do("send", pdu)

    @precondition(lambda self: self.cross.jobs)
    @rule(index=st.integers(0, 3))
    def job_done(self, index: int) -> None:
        self.finish(index)

    @rule()
    def engine_updates_keys(self) -> None:
        if self.engine.state is State.OPEN:
            self.do("update_keys")

    @rule(really=SELDOM)
    def engine_asks_for_release(self, really: bool) -> None:
        if really:
            self.engine_releases()

    def engine_releases(self) -> None:
        if self.engine.state is State.OPEN:
            REACHED["reference: release by the engine"] += 1
            self.do("release")

    @rule(really=SELDOM)
    def both_release(self, really: bool) -> None:
        if really and self.engine.state is State.OPEN:
            self.peer_releases()
            self.engine_releases()

    @rule(talk=st.booleans(), settle=st.booleans())
    def update_after_a_while(self, talk: bool, settle: bool) -> None:
        """A key update begun by the client, whoever that is, with data before and after its answer."""
        self.rest(REST_MS)
        if self.engine.state is not State.OPEN or self.peer_state != "open":
            return
        if self.peer.client:
            self.peer_updates_keys(null=talk)
        else:
            self.engine_updates_keys()
            self.work()
        if talk:
            self.engine_sends([2, 3])
            self.peer_sends([2, 3])
        if settle:
            self.settle()

    @precondition(lambda self: self.engine.state is State.ASKED)
    @rule()
    def engine_accepts_release(self) -> None:
        assert [o for o in self.cross.outputs if isinstance(o, ReleaseIndication)]
        self.do("release_accept")

    @rule(really=SELDOM)
    def engine_aborts(self, really: bool) -> None:
        if self.alive and really:
            REACHED["reference: abort by the engine"] += 1
            self.faulty = True
            self.do("abort", b"\xa4\x03\x80\x01\x01")

    # --- the reference's side ---------------------------------------------------------------------------------------

    @rule(sizes=SIZES)
    def peer_sends(self, sizes: list[int]) -> None:
        if self.peer_state in ("open", "asked"):
            for size in sizes:
                pdu = self.data(size)
                self.sent_by_peer.append(pdu)
                self.put(self.peer.send(pdu, self.utc))

    def put(self, pdu: bytes, carrier: Carrier = Carrier.DATA) -> None:
        if carrier is Carrier.DATA:
            self.history.append(pdu)
        self.to_engine.append((carrier, pdu))

    @rule(null=st.booleans())
    def peer_updates_keys(self, null: bool) -> None:
        if self.peer_state != "open":
            return
        if not self.peer.client:
            self.peer.req_rekey = True
            REACHED["reference: asks for new keys"] += 1
            return
        early = self.changed_ms is not None and self.cross.now.mono_ms < self.changed_ms + REST_MS
        if not early and not self.peer.update_outstanding:
            data = NULL if null else self.data(2)
            if not null:
                self.sent_by_peer.append(data)
            self.put(self.peer.update_keys(self.utc, data))
            REACHED["reference: key update begun by the reference"] += 1

    @rule(really=SELDOM)
    def peer_asks_for_release(self, really: bool) -> None:
        if really:
            self.peer_releases()

    def peer_releases(self) -> None:
        if self.peer_state == "open":
            self.peer_state = "releasing"
            self.put(self.peer.control("ReleaseReq", self.utc), Carrier.RELEASE_REQ)
            REACHED["reference: release by the reference"] += 1

    @precondition(lambda self: self.peer_state == "asked")
    @rule()
    def peer_accepts_release(self) -> None:
        self.put(self.peer.control("ReleaseRsp", self.utc), Carrier.RELEASE_RSP)
        self.peer_state = "ended"

    @rule(diag=st.sampled_from((None, 1, 6)), really=SELDOM)
    def peer_aborts(self, diag: int | None, really: bool) -> None:
        if self.peer_state != "ended" and really:
            REACHED["reference: abort by the reference"] += 1
            self.faulty = True
            self.peer_state = "ended"
            self.put(self.peer.control("DtSecAbort", self.utc, diag), Carrier.ABORT)

    # --- the link ---------------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 4))
    def deliver_to_engine(self, count: int) -> None:
        for _ in range(count):
            if self.to_engine and not self.engine.busy:
                self.take(*self.to_engine.popleft())

    @precondition(lambda self: self.to_engine)
    @rule()
    def deliver_to_busy_engine(self) -> None:
        self.take(*self.to_engine.popleft())

    @rule(count=st.integers(1, 4))
    def deliver_to_peer(self, count: int) -> None:
        for _ in range(count):
            if self.to_peer:
                self.peer_takes(self.to_peer.popleft())

    def peer_takes(self, sent: Send) -> None:
        if self.peer_state == "ended":
            return
        if sent.carrier is Carrier.DATA:
            self.peer_took(self.peer.receive(sent.pdu, self.utc))
            return
        if sent.pdu is None:
            assert self.faulty
            self.peer_state = "ended"
            return
        control = self.peer.take_control(NAMES[sent.carrier], sent.pdu, self.utc)
        if control.name == "ReleaseReq":
            if self.peer_state == "releasing":
                REACHED["reference: crossed release"] += 1
                self.peer_state = "crossed"
                if self.peer.client:
                    self.put(self.peer.control("ReleaseRsp", self.utc), Carrier.RELEASE_RSP)
            else:
                assert self.peer_state == "open"
                self.peer_state = "asked"
        elif control.name == "ReleaseRsp":
            assert self.peer_state in ("releasing", "crossed")
            if self.peer_state == "crossed" and not self.peer.client:
                self.put(self.peer.control("ReleaseRsp", self.utc), Carrier.RELEASE_RSP)
            self.peer_state = "ended"
        else:
            assert self.faulty, control
            self.peer_error = control.name
            self.peer_state = "ended"

    def peer_took(self, opened: Opened) -> None:
        assert self.peer_state in ("open", "releasing"), f"data in {self.peer_state}"
        if opened.appl_data is not None:
            self.got_by_peer.append(opened.appl_data)
        if opened.changed_key:
            self.changed_ms = self.cross.now.mono_ms
            self.updates += 1
        if opened.rekey is not None:
            self.updates += 1
            REACHED["reference: took a carrier"] += 1
            if self.peer_state == "releasing":
                REACHED["reference: took a carrier during release"] += 1
        if opened.changed_key:
            REACHED["reference: took changedKey"] += 1

    @rule()
    def settle(self) -> None:
        for _ in range(100):
            self.work()
            while self.to_engine and not self.engine.busy:
                self.take(*self.to_engine.popleft())
            if self.engine.state is State.ASKED:
                self.do("release_accept")
            while self.to_peer:
                self.peer_takes(self.to_peer.popleft())
            if self.peer_state == "asked":
                self.peer_accepts_release()
            if not (self.cross.jobs or self.to_engine or self.to_peer):
                return
        raise AssertionError("no rest")

    # --- time -------------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from((1, 5, 1000)))
    def tick(self, ms: int) -> None:
        self.pass_time(ms)

    @rule(ms=st.sampled_from((2500, REST_MS, REST_MS, 1_000_000)))
    def rest(self, ms: int) -> None:
        """Nothing is under way; the reference, which has no timers, says something if it has not yet."""
        self.settle()
        if self.peer_state == "open" and not self.peer.tx.count:
            self.put(self.peer.send(NULL, self.utc))
            self.settle()
        while ms > 0:
            self.pass_time(min(ms, 20_000))
            self.settle()
            if self.peer_state == "open" and self.peer.update_outstanding and not self.peer.client:
                self.put(self.peer.send(NULL, self.utc))  # the changedKey that is due
                self.settle()
            ms -= 20_000

    def pass_time(self, ms: int) -> None:
        now = self.cross.now
        self.cross.now = Instant(now.utc_ms + ms, now.mono_ms + ms)
        deadline = self.engine.deadline
        if deadline is not None and deadline <= self.cross.now.mono_ms:
            self.do("tick")

    @rule(ms=st.sampled_from((-100_000, -1, 1, 3000, 100_000)), peer=st.booleans())
    def step_clock(self, ms: int, peer: bool) -> None:
        """Wall clocks step; together they stay within the ten minutes."""
        if peer:
            self.peer_offset = max(-200_000, min(200_000, self.peer_offset + ms))
        else:
            self.peer_offset = max(-200_000, min(200_000, self.peer_offset - ms))
            now = self.cross.now
            self.cross.now = Instant(now.utc_ms + ms, now.mono_ms)
        REACHED["reference: clock stepped"] += 1

    # --- a peer that breaks a rule ----------------------------------------------------------------------------------

    def quiet(self) -> bool:
        """Both open and at rest, so that one answer is due to one fault."""
        self.settle()
        if self.peer_state == "open" and not self.peer.client and self.peer.update_outstanding:
            self.put(self.peer.send(NULL, self.utc))  # the changedKey that is due
            self.settle()
        return self.engine.state is State.OPEN and self.peer_state == "open" and not self.faulty

    def abort_is(self, pdu: bytes, diag: int | None, event_id: str | None = None) -> None:
        """The engine must take nothing from ``pdu`` and answer with DtSecAbort ``diag``, as the reference reads it."""
        self.faulty = True
        before = list(self.got_by_engine)
        self.take(Carrier.DATA, pdu)
        assert self.got_by_engine == before
        raised = [output.event.id for output in self.cross.outputs if isinstance(output, Raised)]
        assert event_id is None or raised == [event_id], (raised, event_id)
        self.work()
        (sent,) = self.to_peer
        abort = self.peer.take_control("ABRT", sent.pdu, self.utc)
        assert (abort.name, abort.diag) == ("DtSecAbort", diag)
        assert self.engine.state is State.ENDED
        self.to_peer.clear()
        self.peer_state = "ended"

    def event_of(self, clear: int, encrypted: int) -> str:
        encrypting = self.peer.suite.aea or self.peer.suite.encr
        return f"IEC62351-4:11.{encrypted}" if encrypting else f"IEC62351-4:10.{clear}"

    @rule(octet=st.integers(1, 12), really=SELDOM)
    def rogue_damages_the_icv(self, octet: int, really: bool) -> None:
        if really and self.quiet():
            pdu = bytearray(self.peer.send(self.data(2), self.utc))
            pdu[-octet] ^= 1
            REACHED["reference: rogue icv"] += 1
            self.abort_is(bytes(pdu), None, self.event_of(5, 5))

    @precondition(lambda self: self.history)
    @rule(which=st.integers(0, 63), really=SELDOM)
    def rogue_replays(self, which: int, really: bool) -> None:
        """Of the present key: replay or, after a step of its clock, an old time; of an old key: its ICV is wrong."""
        if really and self.quiet():
            REACHED["reference: rogue replay"] += 1
            pdu = self.history[which % len(self.history)]
            self.faulty = True
            before = list(self.got_by_engine)
            self.take(Carrier.DATA, pdu)
            raised = [output.event.id for output in self.cross.outputs if isinstance(output, Raised)]
            assert len(raised) == 1
            assert raised[0] in {self.event_of(n, n) for n in (5, 6, 7)}, raised
            assert self.got_by_engine == before
            assert self.engine.state is State.ENDING

    @rule(really=SELDOM)
    def rogue_skips_a_pdu(self, really: bool) -> None:
        if really and self.quiet():
            REACHED["reference: rogue gap"] += 1
            self.peer.send(self.data(2), self.utc)
            self.abort_is(self.peer.send(self.data(2), self.utc), 6, self.event_of(8, 8))

    @rule()
    def rogue_updates_too_early(self) -> None:
        recent = self.changed_ms is not None and self.cross.now.mono_ms < self.changed_ms + 54_000
        if recent and self.peer.client and self.quiet() and not self.peer.update_outstanding:
            REACHED["reference: rogue early rekey"] += 1
            self.abort_is(self.peer.update_keys(self.utc), 1)

    @rule(rekey=st.booleans(), really=SELDOM)
    def rogue_uses_fields_of_the_other_role(self, rekey: bool, really: bool) -> None:
        if really and self.quiet():
            REACHED["reference: rogue field"] += 1
            if self.peer.client:
                more: dict[str, Any] = {"changed_key": True} if rekey else {"req_rekey": True}
                self.abort_is(self.peer.tx.seal(NULL, self.utc, **more), 1)
            elif rekey:
                self.abort_is(self.peer.tx.seal(NULL, self.utc, rekey=(self.peer.group, self.peer._dh.public)), 1)
            elif not self.peer.update_outstanding and not self.engine._keys.count > self.engine.key_updates:
                self.abort_is(self.peer.tx.seal(NULL, self.utc, changed_key=True), 9)

    @rule(octet=st.integers(1, 12), really=SELDOM)
    def intermediary_damages_what_the_engine_sent(self, octet: int, really: bool) -> None:
        """The reference has to notice: so these are real faults, and the engine hears of them."""
        if really and self.quiet():
            self.faulty = True
            self.do("send", self.data(2))
            sent = self.to_peer[-1]
            octets = bytearray(sent.pdu)
            octets[-octet] ^= 0x80
            with pytest.raises(Fault, match="icv"):
                self.peer.receive(bytes(octets), self.utc)
            self.to_peer.clear()
            self.put(self.peer.control("DtSecAbort", self.utc), Carrier.ABORT)
            self.peer_state = "ended"
            self.settle()
            error = next(o for o in self.cross.outputs if isinstance(o, Ended)).error
            assert isinstance(error, Aborted)
            assert error.code is None

    # --- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    def lists_agree(self) -> None:
        assert self.got_by_engine == self.sent_by_peer[: len(self.got_by_engine)]
        assert self.got_by_peer == self.sent_by_engine[: len(self.got_by_peer)]
        if hasattr(self, "engine") and not self.alive:
            assert self.engine.tx is None
            assert self.engine.rx is None

    def teardown(self) -> None:
        try:
            if hasattr(self, "engine") and sys.exc_info()[0] is None:  # else that failure is the one to see
                self.end()
        finally:
            self.secrets.__exit__()

    def end(self) -> None:
        self.settle()
        if not self.faulty:
            assert self.got_by_engine == self.sent_by_peer
            assert self.got_by_peer == self.sent_by_engine
            REACHED["reference: honest to the end"] += 1
            if self.engine.state is State.OPEN:
                assert self.engine.key_updates == self.updates or self.peer.update_outstanding
                if self.number % 2:
                    self.do("release")
                else:
                    self.peer_releases()
                self.settle()
            (ended,) = [output for output in self.cross.outputs if isinstance(output, Ended)]
            assert ended.error is None
            assert self.peer_state == "ended"
        else:
            errors = [output.error for output in self.cross.outputs if isinstance(output, Ended)]
            assert all(error is None or isinstance(error, Aborted | PeerError) for error in errors)
        self.do("connection_lost")
        self.work()
        endpoint = self.engine._endpoint
        assert endpoint.half_open == 0
        assert not endpoint._unconfirmed
        assert not self.secrets.left()
