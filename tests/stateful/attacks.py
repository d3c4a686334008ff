"""What somebody in the middle does: the attacking rules of ``EngineMachine``. Each marks the association it touches."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from fastsec.association import Send
from fastsec.secpdu.fields import Carrier
from fastsec.state import State
from stateful.life import REACHED, Life, Packet

PICK = st.integers(0, 63)
BOTH = st.booleans()


class Attacks:
    """A part of ``EngineMachine``, which has the attributes."""

    lives: list[Life]
    past: list[Life]
    endpoints: Any
    taken_requests: dict[bytes, int]
    life: Any
    data: Any
    settle: Any
    ready: Any
    new_life: Any
    pass_time: Any

    def attack(self, pick: int, what: str) -> Life:
        return self.attack_on(self.life(pick), what)

    def attack_on(self, life: Life, what: str) -> Life:
        life.attacked = True
        REACHED[f"attack {what}"] += 1
        return life

    def under_way(self, pick: int, to_server: bool) -> deque[Packet]:
        """What is on a link; if nothing is, the application is made to send."""
        life = self.life(pick)
        side = life.client if to_server else life.server
        if not life.links[to_server] and side.association.state is State.OPEN:
            life.send(side, [self.data(2), self.data(40)])
        return life.links[to_server]

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, to_server=BOTH)
    def drop(self, pick: int, to_server: bool) -> None:
        link = self.under_way(pick, to_server)
        if link:
            self.attack(pick, "drop")
            link.popleft()

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, to_server=BOTH)
    def duplicate(self, pick: int, to_server: bool) -> None:
        link = self.under_way(pick, to_server)
        if link:
            link.insert(1, link[0])
            self.attack(pick, "duplicate")

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, to_server=BOTH)
    def reorder(self, pick: int, to_server: bool) -> None:
        link = self.under_way(pick, to_server)
        if len(link) > 1:
            link[0], link[1] = link[1], link[0]
            self.attack(pick, "reorder")

    @precondition(lambda self: self.lives)
    @rule(pick=PICK)
    def hold_the_carrier(self, pick: int) -> None:
        """The client's new public value does not arrive; the server goes on under its old key for a minute."""
        life = self.ready(pick)
        if all(side.association.state is State.OPEN for side in life.sides) and all(life.confirmed.values()):
            self.attack_on(life, "carrier held back")
            life.do(life.client, "update_keys")
            while life.client.jobs:
                life.finish(life.client, 0)
            self.pass_time(61_000)
            life.send(life.server, [self.data(2)])
            while life.links[False] and not life.client.association.busy:
                life.arrive(life.links[False].popleft())

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, to_server=BOTH)
    def release_overtakes_data(self, pick: int, to_server: bool) -> None:
        """What was sent before a ReleaseReq comes after it."""
        life = self.ready(pick)
        if all(side.association.state is State.OPEN for side in life.sides):
            sender, receiver = life.sides if to_server else life.sides[::-1]
            self.attack_on(life, "release overtakes data")
            life.send(sender, [self.data(2), self.data(3)])
            if sender.association.state is State.OPEN:
                life.do(sender, "release")
            while sender.jobs:
                life.finish(sender, 0)
            link = life.links[to_server]
            if link:
                link.rotate(1)
            while link and not receiver.association.busy:
                life.arrive(link.popleft())
                while receiver.jobs:
                    life.finish(receiver, 0)

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, to_server=BOTH, where=st.integers(0, 10_000), bit=st.integers(0, 7))
    def corrupt(self, pick: int, to_server: bool, where: int, bit: int) -> None:
        life = self.life(pick)
        link = self.under_way(pick, to_server)
        if link and link[0].sent.pdu:
            octets = bytearray(link[0].sent.pdu)
            # The nonce in a GMAC algorithm does not count (specification 3.1), so only what surely does: the ends.
            at = where % len(octets) if life.client.association.mode != 1 else -1 - where % 12
            if link[0].transfer is not None and b"\x04\x0c" + bytes(12) in octets:
                at = -1 - where % 12
            octets[at] ^= 1 << bit
            self.attack(pick, "corrupt")
            life.arrive(link.popleft(), octets=bytes(octets))

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, to_server=BOTH, which=PICK)
    def replay(self, pick: int, to_server: bool, which: int) -> None:
        """Something that went this way before, however old its key."""
        life = self.life(pick)
        old = [packet for packet in life.history if packet.to_server is to_server]
        if old:
            self.attack(pick, "replay")
            life.arrive(old[which % len(old)])

    @precondition(lambda self: self.lives)
    @rule(pick=PICK, to_server=BOTH, which=PICK)
    def reflect(self, pick: int, to_server: bool, which: int) -> None:
        life = self.life(pick)
        old = [packet for packet in life.history if packet.to_server is not to_server]
        if old:
            self.attack(pick, "reflect")
            life.arrive(old[which % len(old)], at=life.server if to_server else life.client)

    @precondition(lambda self: len(self.lives) > 1)
    @rule(pick=PICK, other=PICK, to_server=BOTH, which=PICK)
    def inject(self, pick: int, other: int, to_server: bool, which: int) -> None:
        """Something of another association of the same identities."""
        life, source = self.life(pick), self.life(other)
        found = [packet for packet in source.history if packet.to_server is to_server]
        if source is not life and found:
            self.attack(pick, "inject")
            life.arrive(found[which % len(found)])

    @precondition(lambda self: self.lives or self.past)
    @rule(pick=PICK)
    def replay_request(self, pick: int) -> None:
        """A recorded HandshakeReq to a fresh connection: refused before any public-key work if it was accepted."""
        known = [life for life in (*self.past, *self.lives) if life.history]
        if not known:
            return
        source = known[pick % len(known)]
        request = source.history[0].sent
        if request.carrier is not Carrier.ASSOCIATE_REQ:
            return
        server = self.endpoints.index(source.endpoints[1]) if source.endpoints[1] in self.endpoints else None
        if server is None:
            return
        life = self.new_life(server == 0)
        self.attack(len(self.lives) - 1, "request replayed")
        seen = State.DECIDING in source.since[source.server]
        age = life.clock_of(life.server).now.utc_ms - self.taken_requests.get(request.pdu, 0)
        life.arrive(Packet(request, None, True))
        if seen and 0 <= age < 300_000 and not life.skewed and not source.skewed:
            assert life.server.events == ["REPLAY_DETEC_ASS_REQ"]
            assert [output for output in life.server.outputs if isinstance(output, Send)] == [Send(Carrier.ABORT, None)]
            assert not life.server.jobs
            REACHED["exact repeat of a request refused"] += 1
        life.do(life.client, "abort", None)
