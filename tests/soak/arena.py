"""What every attack is made with: the world it happens in, the list of attacks, and the record of one attempt."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import import_module

from fastsec.envs.osi import AssociateCnf
from fastsec.pki.identity import OsiName
from reference.peer import ReferencePeer

from . import pki
from .wire import PATIENCE, Line, TurnedAway, params

INITIATE = bytes.fromhex("a803800101")
RESPONSE = bytes.fromhex("a903800102")
REQUEST = bytes.fromhex("a00a0102030405060708090a")


@dataclass
class Attempt:
    """One attempt of one attack.

    Attributes:
        kind: which attack, a row of ``attacks.csv``.
        at: address of the attacker's connection as the server saw it; empty if the server had no part in it.
        heard: events at the fastsec client that took part, in order; None if there was none.
        ending: how the server ended the connection, see ``Line``; ``away`` if it did not take it.
        note: why an attempt went wrong on the attacker's side, empty if it did not.
        aside: not the attack itself but what it needed, as recording a handshake: nothing may be raised for it.
    """

    kind: str
    at: str = ""
    heard: list[str] | None = None
    ending: str = ""
    note: str = ""
    aside: bool = False


def target(kind: str) -> str:
    """Whom a kind of attack is for: the server, or a side of the gateways."""
    side = kind.partition("-")[0]
    return side if side in ("near", "far") else "server"


@dataclass
class World:
    """Where the attacks happen.

    Attributes:
        people: who there is.
        ports: where the attacked are: ``server``, and ``near`` and ``far`` of the gateways.
        waits: seconds the server's limits are set to, by name: the accept time and so on.
        asides: connections that are no attempts themselves.
    """

    people: pki.People
    ports: dict[str, int]
    waits: dict[str, float]
    asides: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers: dict[str, itertools.count[int]] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def source(self, kind: str) -> str:
        """The loopback address a kind of attack comes from: each has its own share of signed rejects."""
        index = list(ATTACKS).index(kind)
        return f"127.0.{2 + index // 200}.{1 + index % 200}"

    async def dial(self, kind: str, calling: OsiName, called: OsiName = pki.SERVER) -> Line:
        """A connection to whom this kind of attack is for."""
        return await Line.dial(self.ports[target(kind)], self.source(kind), params(calling, called))

    def number(self, name: str) -> str:
        """Association numbers in a circle, so that none is live twice."""
        count = self._numbers.setdefault(name, itertools.count())
        return str(next(count) % 1000)

    def peer(self, name: str, **changes: object) -> ReferencePeer:
        """A client of the reference implementation."""
        actor = self.people[name]
        facts = {
            "certificate": actor.certificate,
            "key": actor.key,
            "suite": pki.MODES[actor.mode][1],
            "number": self.number(name),
            "peer_certificate": self.people["server"].certificate,
        } | changes
        return ReferencePeer(True, **facts)


async def associated(world: World, kind: str, name: str, pdu: bytes) -> tuple[Line, bytes]:
    """An association by a good HandshakeReq, as far as the attacker is concerned: the line and the HandshakeAcc.

    TurnedAway if the server's limits were in the way; the judge sees from its record whether they were.
    """
    line = await world.dial(kind, world.people[name].name)
    try:
        answer = await line.call(pdu)
        if isinstance(answer, AssociateCnf) and answer.result == "accepted" and answer.user_data:
            return line, answer.user_data
        await line.until_closed()
    except TurnedAway:
        line.close()
    raise TurnedAway(line.at)


Attack = Callable[[World, str], Awaitable["Attempt | list[Attempt]"]]
ATTACKS: dict[str, Attack] = {}


def attack(*kinds: str) -> Callable[[Attack], Attack]:
    """Enter an attack under its names; the function is told under which one it runs."""

    def enter(made: Attack) -> Attack:
        for kind in kinds:
            assert kind not in ATTACKS, kind
            ATTACKS[kind] = made
        return made

    return enter


def load() -> None:
    """Import every module of attacks; always in this order, because their source addresses follow from it."""
    for name in ("garbage", "requests", "inside", "middle", "rogue"):
        import_module(f"{__package__}.{name}")


async def run_once(world: World, kind: str) -> list[Attempt]:
    """Make one attempt (a flood makes many). What goes wrong on our own side is noted, never swallowed."""
    try:
        async with asyncio.timeout(3 * PATIENCE):
            made = await ATTACKS[kind](world, kind)
    except TurnedAway as error:
        return [Attempt(kind, at=str(error), ending="away")]
    except Exception as error:
        return [Attempt(kind, note=f"{type(error).__name__}: {error}")]
    return made if isinstance(made, list) else [made]
