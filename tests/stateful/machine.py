"""Engines against each other: several associations of two identities, honest and attacked, with clocks of their own."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from unittest.mock import patch

from hypothesis import event, note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine_pair import CLIENT, INITIATE, RESPONSE, SERVER, UTC, Side, config, credential
from fastsec import limits
from fastsec.association import ReleaseIndication
from fastsec.config import Policy
from fastsec.errors import Aborted, LimitReached, Rejected
from fastsec.instant import Instant
from fastsec.peers import Endpoint
from fastsec.secpdu.fields import Carrier
from fastsec.state import OVER, SERVER_HANDSHAKE, State
from stateful.attacks import BOTH, PICK, Attacks
from stateful.life import REACHED, Clock, Life
from stateful.model import IN_DATA
from stateful.noted import NotedSecrets
from test_handshake import MODES

UNCONFIRMED = 4  # instead of 64 per peer; tests/test_flood.py has the true number
LIVES = 6
NEAR_MS = 9 * 60_000  # clocks closer than this never make a time fault by themselves
STEPS = st.sampled_from(
    (-1, 1, 3000, -5000, -100_000, 100_000, 100_000, -100_000, 200_000, -200_000, 660_000, -660_000)
)
SIZES = st.sampled_from((2, 2, 3, 40, 200, 5000))


class EngineMachine(Attacks, RuleBasedStateMachine):
    """See the module. Rules that attack mark the association; in all others any event at all is a failure."""

    def __init__(self) -> None:
        super().__init__()
        self.lives: list[Life] = []
        self.past: list[Life] = []
        self.pairs: set[tuple[int, int]] = set()
        self.number = 0
        self.renewals = [0, 0]
        self.taken_requests: dict[bytes, int] = {}
        self.limit = patch.object(limits, "OUR_UNCONFIRMED_PER_PEER", UNCONFIRMED)
        self.secrets = NotedSecrets()
        self.limit.__enter__()
        self.secrets.__enter__()

    @initialize(
        mode=st.sampled_from(sorted(MODES)),
        strict=st.sampled_from((False, False, True)),
        count=st.sampled_from((None, None, 5)),
        drifts=st.tuples(*[st.sampled_from((0.0, 0.001, -0.001))] * 2),
    )
    def begin(self, mode: str, strict: bool, count: int | None, drifts: tuple[float, float]) -> None:
        policy: Policy = replace(MODES[mode], strict_peer=strict, rekey_messages=count, rekey_interval=900)
        self.strict = strict
        self.clocks = (Clock(1_000_000), Clock(77_000_000))
        for clock, drift in zip(self.clocks, drifts, strict=True):
            clock.drift = drift
        begun = Instant(UTC - 3_600_000, 0)
        self.endpoints = tuple(Endpoint(config(name, policy=policy), now=begun) for name in (CLIENT, SERVER))
        event(f"mode {mode}")

    # --- picking ----------------------------------------------------------------------------------------------------

    def life(self, pick: int) -> Life:
        return self.lives[pick % len(self.lives)]

    def side(self, pick: int, client: bool) -> Side:
        return self.life(pick).sides[0 if client else 1]

    def are_skewed(self) -> bool:
        ahead = self.clocks[0].now.utc_ms - self.clocks[1].now.utc_ms
        return abs(ahead) > NEAR_MS or any(abs(clock.offset_ms) > NEAR_MS / 2 for clock in self.clocks)

    # --- opening ----------------------------------------------------------------------------------------------------

    def new_life(self, swapped: bool) -> Life:
        ends = (1, 0) if swapped else (0, 1)
        life = Life(tuple(self.endpoints[i] for i in ends), tuple(self.clocks[i] for i in ends), self.strict)
        life.skewed = self.are_skewed()
        self.lives.append(life)
        return life

    @precondition(lambda self: len(self.lives) < LIVES)
    @rule(swapped=BOTH)
    def start(self, swapped: bool) -> None:
        life = self.new_life(swapped)
        life.do(life.client, "start", INITIATE)

    @precondition(lambda self: len(self.lives) < LIVES)
    @rule(swapped=BOTH, talk=BOTH)
    def open_whole(self, swapped: bool, talk: bool) -> None:
        """The handshake as it usually goes, and a PDU each way."""
        life = self.new_life(swapped)
        life.do(life.client, "start", INITIATE)
        self.settle(life)
        if talk:
            for side in life.sides:
                if side.association.state is State.OPEN:
                    life.send(side, [self.data(2)])
            self.settle(life)

    @precondition(lambda self: len(self.lives) < LIVES)
    @rule(swapped=BOTH, really=st.sampled_from((False, False, True)))
    def crowd(self, swapped: bool, really: bool) -> None:
        """So many unconfirmed associations that the rule for them has to act."""
        if not really:
            return
        for _ in range(UNCONFIRMED + 1):
            life = self.new_life(swapped)
            life.do(life.client, "start", INITIATE)
            self.settle(life)
        REACHED["crowd of unconfirmed"] += 1

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, yes=st.sampled_from((True, True, True, False)), transient=BOTH)
    def decide(self, pick: int, yes: bool, transient: bool) -> None:
        side = self.side(pick, False)
        if side.association.state is State.DECIDING:
            if yes:
                self.life(pick).do(side, "accept", RESPONSE)
            else:
                REACHED["application refused"] += 1
                self.life(pick).do(side, "reject", None, transient)

    # --- what honest sides do ---------------------------------------------------------------------------------------

    def data(self, size: int) -> bytes:
        self.number += 1
        body = self.number.to_bytes(4, "big") + bytes(max(size - 4, 0))
        return b"\xa0\x84" + len(body).to_bytes(4, "big") + body

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, client=BOTH, sizes=st.lists(SIZES, min_size=1, max_size=6))
    def send(self, pick: int, client: bool, sizes: list[int]) -> None:
        self.life(pick).send(self.side(pick, client), [self.data(size) for size in sizes])

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, client=BOTH, count=st.integers(1, 4))
    def deliver(self, pick: int, client: bool, count: int) -> None:
        """The next PDUs arrive, as long as the adapter reads."""
        life = self.life(pick)
        for _ in range(count):
            link = life.links[client]
            if link and not life.sides[1 if client else 0].association.busy:
                life.arrive(link.popleft())

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, client=BOTH)
    def deliver_while_busy(self, pick: int, client: bool) -> None:
        life = self.life(pick)
        if life.links[client]:
            REACHED["delivered while busy"] += life.sides[1 if client else 0].association.busy
            life.arrive(life.links[client].popleft())

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, client=BOTH, index=st.integers(0, 3), early=st.sampled_from((False, False, True)))
    def finish_job(self, pick: int, client: bool, index: int, early: bool) -> None:
        side = self.side(pick, client)
        if side.jobs:
            self.life(pick).finish(side, index, early=early)

    @precondition(lambda self: self.lives)
    @rule(pick=PICK)
    def settle_one(self, pick: int) -> None:
        self.settle(self.life(pick))

    def ready(self, pick: int) -> Life:
        """An association at rest in data transfer, if need be a new one; where clocks are wrong it may not be open."""
        life = self.life(pick) if self.lives else self.new_life(False)
        if not all(side.association.state is State.OPEN for side in life.sides):
            life = self.new_life(bool(pick % 2))
            life.do(life.client, "start", INITIATE)
        self.settle(life)
        for side in life.sides:
            life.send(side, [self.data(2)])
        self.settle(life)
        return life

    def settle(self, life: Life) -> None:
        """Everything under way arrives, jobs are done, applications answer."""
        for _ in range(200):
            life.wake()
            for side, inward in zip(life.sides, (False, True), strict=True):
                while side.jobs:
                    life.finish(side, 0)
                while life.links[inward] and not side.jobs:
                    life.arrive(life.links[inward].popleft())
                state = side.association.state
                if state is State.DECIDING:
                    life.do(side, "accept", RESPONSE)
                elif state is State.ASKED and side.seen(ReleaseIndication):
                    life.do(side, "release_accept")
            if not any(life.links.values()) and not any(side.jobs for side in life.sides):
                return
        raise AssertionError("two sides that never come to rest")

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, client=BOTH)
    def update_keys(self, pick: int, client: bool) -> None:
        side = self.side(pick, client)
        if side.association.state is State.OPEN:
            self.life(pick).do(side, "update_keys")

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, client=BOTH, whole=st.sampled_from((True, True, False)), talk=BOTH)
    def update_then_data(self, pick: int, client: bool, whole: bool, talk: bool) -> None:
        """A key update, finished or not, some time after the last one; then data under the new keys."""
        life = self.life(pick)
        if all(side.association.state is State.OPEN for side in life.sides):
            for each in self.lives:
                self.settle(each)
            self.pass_time(2500)  # who has said nothing yet does so now
            for each in self.lives:
                self.settle(each)
            self.pass_time(61_000)
            side = life.sides[0 if client else 1]
            if side.association.state is State.OPEN:
                life.do(side, "update_keys")
            if whole:
                self.settle(life)
            elif life.client.jobs:
                life.finish(life.client, 0)
            if talk:
                for side in life.sides:
                    life.send(side, [self.data(2), self.data(3)])

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, which=PICK, to_server=BOTH)
    def replay_from_before_the_update(self, pick: int, which: int, to_server: bool) -> None:
        life = self.ready(pick)
        if all(side.association.state is State.OPEN for side in life.sides):
            life.do(life.client, "update_keys")
            self.settle(life)
        flow = life.flows[to_server]
        old = [p for p in life.history if p.to_server is to_server and p.transfer and p.transfer.epoch < flow.rx_epoch]
        if old:
            self.attack_on(life, "replay under an old key")
            life.arrive(old[which % len(old)])

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, to_server=BOTH)
    def jobs_wait_while_pdus_come(self, pick: int, to_server: bool) -> None:
        """Key update, data and release arrive in one read while no job gets done."""
        life = self.ready(pick)
        if all(side.association.state is State.OPEN for side in life.sides):
            self.settle(life)
            sender, receiver = life.sides if to_server else life.sides[::-1]
            if life.client.association.state is not State.OPEN:
                return
            life.do(life.client, "update_keys")
            if life.client.jobs:
                life.finish(life.client, 0)
            life.send(sender, [self.data(2), self.data(3)])
            if sender.association.state is State.OPEN:
                life.do(sender, "release")
                while sender.jobs:
                    life.finish(sender, len(sender.jobs) - 1)
            while life.links[to_server]:
                REACHED["delivered while busy"] += receiver.association.busy
                life.arrive(life.links[to_server].popleft())

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, client=BOTH)
    def release(self, pick: int, client: bool) -> None:
        side = self.side(pick, client)
        if side.association.state is State.OPEN:
            if self.life(pick).outstanding:
                REACHED["release with an update outstanding"] += 1
            self.life(pick).do(side, "release")

    @precondition(lambda self: self.lives)
    @rule(pick=PICK)
    def release_both(self, pick: int) -> None:
        """A crossed release."""
        life = self.life(pick)
        if all(side.association.state is State.OPEN for side in life.sides):
            for side in life.sides:
                life.do(side, "release")

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, first=BOTH)
    def update_meets_release(self, pick: int, first: bool) -> None:
        """The carrier is on its way, or its keys are being derived, when a side asks for release."""
        life = self.life(pick)
        if all(side.association.state is State.OPEN for side in life.sides):
            life.do(life.client, "update_keys")
            if first and life.client.jobs:
                life.finish(life.client, 0)
            life.do(life.server if first else life.client, "release")

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, client=BOTH)
    def release_accept(self, pick: int, client: bool) -> None:
        side = self.side(pick, client)
        if side.association.state is State.ASKED:
            self.life(pick).do(side, "release_accept")

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, client=BOTH)
    def abort(self, pick: int, client: bool) -> None:
        life = self.life(pick)
        life.given_up = True
        life.do(self.side(pick, client), "abort", None)

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, client=BOTH)
    def lose_connection(self, pick: int, client: bool) -> None:
        life = self.life(pick)
        life.given_up = True
        life.do(self.side(pick, client), "connection_lost")

    @rule(which=st.integers(0, 1), reload=BOTH)
    def renew_credential(self, which: int, reload: bool) -> None:
        """Another certificate of the same identity, while associations live; or a second configuration that shares
        numbers and memory, as the adapter makes it."""
        old = self.endpoints[which]
        if reload and not old.half_open:
            sibling = copy.copy(old)
            self.endpoints = tuple(sibling if i == which else e for i, e in enumerate(self.endpoints))
        self.renewals[which] = (self.renewals[which] + 1) % 3
        endpoint = self.endpoints[which]
        name = endpoint.config.credential.name
        endpoint.config = replace(endpoint.config, credential=credential(name, number=self.renewals[which]))
        REACHED["credential renewed"] += 1

    # --- time -------------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from((1, 1, 40, 40, 1000, 2001, 6000, 11_000, 61_000, 900_000)))
    def tick(self, ms: int) -> None:
        self.pass_time(ms)

    def pass_time(self, ms: int) -> None:
        for clock in self.clocks:
            clock.pass_ms(ms)
        self.note_skew()
        for life in self.lives:
            life.note_age()
            for side in life.sides:
                life.tick(side)

    @rule(what=st.sampled_from(("step", "step", "step", "stop or go", "set")), which=st.integers(0, 1), ms=STEPS)
    def change_clock(self, what: str, which: int, ms: int) -> None:
        """A step, or the wall clock stands still, or both are set right; what was sent ahead of time stays sent."""
        clock = self.clocks[which]
        if what == "step":
            clock.offset_ms += ms
            REACHED["clock stepped"] += 1
        elif what == "stop or go":
            clock.stands = not clock.stands
            REACHED["clock stands"] += clock.stands
        else:
            for clock in self.clocks:
                clock.offset_ms = 0
                clock.stands = False
        self.note_skew()

    def note_skew(self) -> None:
        if self.are_skewed():
            REACHED["clocks far apart"] += 1
            for life in self.lives:
                life.skewed = True

    # --- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    def wake(self) -> None:
        for life in self.lives:
            life.wake()

    @invariant()
    def tables_agree(self) -> None:
        if not hasattr(self, "endpoints"):
            return
        for which, endpoint in enumerate(self.endpoints):
            other = (CLIENT, SERVER)[1 - which]
            numbers = endpoint.numbers(other.oid)
            clients = [life.client for life in self.lives if life.clocks[0] is self.clocks[which]]
            servers = [life.server for life in self.lives if life.clocks[1] is self.clocks[which]]
            live = {
                int(s.association._n) for s in clients if s.association._n and s.association.state is not State.ENDED
            }
            assert numbers.live_as_client == live, (numbers.live_as_client, live)
            admitted = [s for s in servers if State.DECIDING in s.pair.since[s]]
            for side in admitted:
                self.note_request(side)
                n, _, m = (side.association.asso_id or "0:0").partition(":")
                self.pairs.add((int(n), int(m)))
            live = {int(s.association._n) for s in admitted if s.association.state is not State.ENDED}
            assert numbers.live_as_server == live
            waiting = {s.association for s in admitted if not s.pair.confirmed[s] and s.association.state not in OVER}
            kept = set(numbers.unconfirmed)
            assert waiting <= kept, "an unconfirmed association that is not counted"
            ending = {s.association for s in admitted if s.association.state is State.ENDING}
            assert kept <= waiting | ending, "something is counted as unconfirmed that is confirmed or over"
            assert len(kept) <= limits.OUR_UNCONFIRMED_PER_PEER
            handshaking = [
                s
                for s in servers
                if State.OPEN not in s.pair.since[s] and s.association.state in (*SERVER_HANDSHAKE, State.ENDING)
            ]
            half_open = [
                s for s in handshaking if s.association.state is not State.LISTENING and s.association._half_open
            ]
            mine = [s for s in half_open if s.association._endpoint is endpoint]
            assert endpoint.half_open == len(mine)
            for s in handshaking:
                if s.association.state in (State.EXAMINING, State.DECIDING, State.ACCEPTING):
                    assert s in half_open

    def note_request(self, side: Side) -> None:
        life = side.pair
        if life.history and life.history[0].sent.carrier is Carrier.ASSOCIATE_REQ:
            pdu = life.history[0].sent.pdu
            self.taken_requests.setdefault(pdu, life.clock_of(side).now.utc_ms)

    @invariant()
    def epochs_agree(self) -> None:
        for life in self.lives:
            if life.attacked:
                continue
            up, down = life.flows[True], life.flows[False]
            assert 0 <= up.tx_epoch - down.rx_epoch <= 1
            for side in life.sides:
                association = side.association
                if association.state in IN_DATA and not association.busy:
                    done = down.rx_epoch if side is life.client else down.tx_epoch
                    assert association.key_updates == done, (association, association.key_updates, done)

    @invariant()
    def put_away(self) -> None:
        """Associations that are over make room for new ones."""
        for life in [life for life in self.lives if all(s.ended and not s.jobs for s in life.sides)]:
            self.lives.remove(life)
            self.past = [*self.past[-8:], life]

    # --- the end ----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if hasattr(self, "endpoints") and sys.exc_info()[0] is None:  # else that failure is the one to see
                self.end_all()
        finally:
            self.secrets.__exit__()
            self.limit.__exit__(None, None, None)

    def end_all(self) -> None:
        for life in list(self.lives):
            fair = not (life.attacked or life.skewed or life.given_up or life.late)
            note(f"ending {life.client.association!r} {life.server.association!r} fair={fair}")
            self.settle(life)
            if fair and not life.given_up:
                self.end_fairly(life)
            for side in life.sides:
                life.do(side, "connection_lost")
            for side in life.sides:
                while side.jobs:
                    life.finish(side, 0)
                assert side.ended
        for endpoint in self.endpoints:
            assert endpoint.half_open == 0
            assert not endpoint._unconfirmed
            for numbers in endpoint._peers.values():
                assert not numbers.live_as_client
                assert not numbers.live_as_server
                assert not numbers.unconfirmed
                assert not any(numbers.is_live(pair) for pair in self.pairs)
        assert not self.secrets.left()

    def end_fairly(self, life: Life) -> None:
        """Nobody has touched it: everything sent has arrived, and the release works."""
        states = {side.association.state for side in life.sides}
        refused = any(side.ended and isinstance(side.error, (Rejected, LimitReached, Aborted)) for side in life.sides)
        if refused:
            return
        for side in life.sides:
            flow = life.flows[side is life.server]
            assert side.received == flow.sent
        if states == {State.OPEN}:
            REACHED["ended fairly"] += 1
            life.do(life.server if self.number % 2 else life.client, "release")
            self.settle(life)
        for side in life.sides:
            assert side.ended, side.association
            assert side.error is None
