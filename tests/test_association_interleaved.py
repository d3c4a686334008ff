"""Random interleavings of everything two honest sides can do: sends, key updates, slow jobs, slow links, time, release.

Two honest peers never raise an event, deliver everything in order, and end as they should, whatever the order of
things is; only limits of time may end an association otherwise.
"""

from __future__ import annotations

import random

import pytest

from engine_pair import CLIENT, INITIATE, SERVER, ConnectionPair, Side, config
from fastsec.association import Established, ReleaseIndication
from fastsec.config import Policy
from fastsec.errors import Aborted, LimitReached
from fastsec.instant import Instant
from fastsec.state import State
from test_handshake import MODES

POLICIES = {
    "ae": Policy(),
    "strict": Policy(strict_peer=True),
    "counting": Policy(rekey_messages=7),
    "integrity": MODES["hmac"],
    "cbc": MODES["cbc-gmac"],
}


class Journey:
    """One random life of an association."""

    def __init__(self, seed: int, policy: Policy) -> None:
        self.rng = random.Random(seed)
        self.pair = ConnectionPair(config(CLIENT, policy=policy), config(SERVER, policy=policy))
        self.sides = (self.pair.client, self.pair.server)
        self.sent: dict[Side, list[bytes]] = {side: [] for side in self.sides}
        self.links: dict[Side, list] = {side: [] for side in self.sides}
        for side in self.sides:
            side.hold_jobs = True
            side.auto = False
        self.number = 0

    def send(self, side: Side) -> None:
        if side.association.state not in (State.OPEN, State.ASKED):
            return
        self.number += 1
        data = b"\xa0\x04" + self.number.to_bytes(4, "big")
        side.send(data)
        self.sent[side].append(data)

    def job(self, side: Side) -> None:
        """One job of this side finishes; not always the oldest."""
        if side.jobs:
            side.jobs.rotate(-self.rng.randrange(len(side.jobs)))
            job = side.jobs.popleft()
            job.run()
            side.association.job_done(job, self.pair.now)
            self.pair.collect(side)

    def deliver(self, side: Side) -> None:
        """The next PDU to this side arrives, unless the adapter is told to wait."""
        while self.pair.link:
            to, sent = self.pair.link.popleft()
            self.links[to].append(sent)
        if self.links[side] and (not side.association.busy or self.rng.random() < 0.1):
            self.pair.deliver(side, self.links[side].pop(0))

    def tick(self, side: Side) -> None:
        ms = self.rng.choice((1, 1, 5, 40, 1000, 30_000))
        if any(self.links.values()) or self.pair.link or any(s.jobs for s in self.sides):
            ms = min(ms, 40)  # nothing is on its way for longer than that
        if any(side.association.state is not State.OPEN for side in self.sides):
            ms = min(ms, 40)  # nor does an application take long over a release
        self.pair.now = Instant(self.pair.now.utc_ms + ms, self.pair.now.mono_ms + ms)
        for each in self.sides:
            if each.association.deadline is not None and each.association.deadline <= self.pair.now.mono_ms:
                each.tick()

    def update(self, side: Side) -> None:
        if side.association.state is State.OPEN:
            side.update_keys()

    def check(self) -> None:
        for side, other in (self.sides, self.sides[::-1]):
            assert not side.events, side.events
            got = side.received
            assert got == self.sent[other][: len(got)]
            assert side.association.deadline is None or side.association.deadline > self.pair.now.mono_ms - 31_000

    def steps(self, count: int) -> None:
        actions = [self.send, self.job, self.deliver, self.tick, self.update]
        for _ in range(count):
            (action,) = self.rng.choices(actions, (6, 6, 8, 2, 1))
            action(self.rng.choice(self.sides))
            self.check()

    def settle(self) -> None:
        for _ in range(2000):
            for side in self.sides:
                self.job(side)
                self.deliver(side)
                if side.association.state is State.ASKED and side.seen(ReleaseIndication):
                    side.release_accept()
            if not self.pair.link and not any(self.links.values()) and not any(side.jobs for side in self.sides):
                break
        self.check()

    def rest(self) -> None:
        """Some minutes without traffic: the distance between updates passes, what was put off comes."""
        for _ in range(self.rng.randrange(3, 8)):
            self.settle()
            self.pair.now = Instant(self.pair.now.utc_ms + 20_000, self.pair.now.mono_ms + 20_000)
            for side in self.sides:
                if side.association.deadline is not None and side.association.deadline <= self.pair.now.mono_ms:
                    side.tick()
        self.settle()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(60))
def test_honest_peers_never_quarrel(seed: int, policy: str) -> None:
    journey = Journey(seed, POLICIES[policy])
    pair = journey.pair
    pair.client.start(INITIATE)
    journey.settle()
    assert pair.server.seen(Established)
    for _ in range(6):
        journey.steps(80)
        if journey.rng.random() < 0.8:
            journey.rest()
    journey.settle()
    assert pair.client.association.key_updates >= 2
    assert pair.client.association.key_updates == pair.server.association.key_updates or policy == "strict"
    if any(side.ended for side in journey.sides):
        assert all(isinstance(side.error, LimitReached | Aborted) for side in journey.sides)
        return
    assert pair.client.received == journey.sent[pair.server]
    assert pair.server.received == journey.sent[pair.client]
    enders = journey.rng.choice(((0,), (1,), (0, 1)))
    for index in enders:
        if journey.sides[index].association.state is State.OPEN:
            journey.sides[index].release()
    for _ in range(30):
        journey.steps(3)
        for side in journey.sides:
            if side.association.state is State.ASKED:
                side.release_accept()
    journey.settle()
    for side, other in (journey.sides, journey.sides[::-1]):
        assert side.error is None
        assert side.received == journey.sent[other]
    assert not pair.endpoints[0].numbers(SERVER.oid).live_as_client
    assert not pair.endpoints[1].numbers(CLIENT.oid).live_as_server
    assert pair.endpoints[1].half_open == 0
    assert not pair.endpoints[1]._unconfirmed
