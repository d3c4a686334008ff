"""Attacks by a false server: a fastsec client calls the server and reaches the attacker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from fastsec import profile
from fastsec.envs.osi import AssociateInd, presentation, session
from fastsec.secpdu.der import decode
from fastsec.secpdu.fields import Carrier
from fastsec.secpdu.model import AeaOffer, DhPublic, NonAeaOffer, algorithm_id
from forge import RSA, UNKNOWN_SIGNATURE, flip_last, forge
from reference.peer import ReferencePeer

from . import pki
from .arena import RESPONSE, Attempt, World, attack
from .middle import call
from .requests import _CERTIFICATES
from .wire import PATIENCE, Line, params, utc_ms

_NAME = "victim-ae"


async def serve_once(world: World, kind: str, answer: Callable[[Line, bytes], None]) -> Attempt:
    """Let the victim call, answer its request, see what it makes of it."""
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    accepted = asyncio.get_running_loop().create_future()
    listener = await asyncio.start_server(lambda *both: accepted.set_result(both), "127.0.0.1", 0)
    try:
        victim = await call(world, _NAME, listener.sockets[0].getsockname()[1])
        line = Line(*await accepted, "responder", params(pki.SERVER))
    finally:
        listener.close()
    while not isinstance(found := await line.take(), AssociateInd):
        assert found is not None, victim.error
    answer(line, found.user_data)
    async with asyncio.timeout(PATIENCE):
        await victim.wait("ended")
    line.end()
    await line.until_closed()
    return Attempt(kind, heard=victim.events, ending=line.ending)


def _acceptance(world: World, request: bytes, name: str = "server", shift: int = 0, **changes: object) -> bytes:
    """A HandshakeAcc of the reference implementation."""
    actor = world.people[name]
    facts = {"certificate": actor.certificate, "key": actor.key, "suite": pki.MODES["ae"][1]} | changes
    peer = ReferencePeer(False, **facts)
    peer.take_handshake(request, utc_ms())
    return peer.accept(RESPONSE, utc_ms() + shift)


@attack(*(f"server-certificate-{kind}" for kind in _CERTIFICATES))
async def certificate(world: World, kind: str) -> Attempt:
    name = "called-" + kind.rpartition("-")[2]
    return await serve_once(world, kind, lambda line, request: line.accept(_acceptance(world, request, name)))


@attack("server-certificate-other-name")
async def other_name(world: World, kind: str) -> Attempt:
    """Another's good certificate at the address that was called."""
    return await serve_once(world, kind, lambda line, request: line.accept(_acceptance(world, request, "mallory")))


_CLOCKS = {"server-clock-behind": -11 * 60_000, "server-clock-ahead": 11 * 60_000}


@attack(*_CLOCKS)
async def clock(world: World, kind: str) -> Attempt:
    shift = _CLOCKS[kind]
    return await serve_once(world, kind, lambda line, request: line.accept(_acceptance(world, request, shift=shift)))


_FORGED = {
    "server-signature": {"signature": flip_last},
    "server-unknown-algorithm": {"sig_alg": UNKNOWN_SIGNATURE},
    "server-algorithm-differs": {"algo": RSA},
    "server-version": {"version": 2},
    "server-group": {"dh_key": (DhPublic(14, b"\x7f" * 256),)},
    "server-off-curve": {"dh_key": (DhPublic(23, b"\x04" + b"\x01" * 64),)},
    "server-hmac": {"hmac": algorithm_id(profile.AES128_CBC)},
    "server-without-encryption": {"encr_mode": NonAeaOffer(None, (algorithm_id(profile.HMAC_SHA256),))},
    "server-algorithm-not-offered": {"encr_mode": AeaOffer((algorithm_id(profile.AES128_GCM, 13),))},
}


@attack(*_FORGED)
async def forged(world: World, kind: str) -> Attempt:
    by = world.people["server"].credential

    def answer(line: Line, request: bytes) -> None:
        line.accept(forge(Carrier.ASSOCIATE_RSP, _acceptance(world, request), by, **_FORGED[kind]))

    return await serve_once(world, kind, answer)


@attack("server-number")
async def number(world: World, kind: str) -> Attempt:
    """Another client's number."""
    by = world.people["server"].credential

    def answer(line: Line, request: bytes) -> None:
        own = int(decode(Carrier.ASSOCIATE_REQ, request).token1.asso_id)
        pdu = _acceptance(world, request)
        line.accept(forge(Carrier.ASSOCIATE_RSP, pdu, by, asso_id=f"{(own + 1) % 1000}:1"))

    return await serve_once(world, kind, answer)


def _tsdu(octets: bytes) -> Callable[[Line, bytes], None]:
    return lambda line, request: line.tsdu(octets)


_GARBAGE: dict[str, Callable[[], Callable[[Line, bytes], None]]] = {
    "server-tpkt-garbage": lambda: lambda line, request: line.raw(b"\xff" + os.urandom(30)),
    "server-session-garbage": lambda: _tsdu(b"\xee" + os.urandom(30)),
    "server-presentation-garbage": lambda: _tsdu(session.encode_accept(None, b"\x31\x20" + os.urandom(32), 2)),
    "server-acse-garbage": lambda: _tsdu(
        session.encode_accept(None, presentation.encode_accept(None, (0, 0, 0), 1, b"\x61\x10" + b"\xff" * 16), 2)
    ),
    "server-secpdu-garbage": lambda: lambda line, request: line.accept(b"\xa0\x40" + os.urandom(64)),
    "server-data-first": lambda: _tsdu(session.encode_data(presentation.user_data(5, b"\x30\x00"))),
}


@attack(*_GARBAGE)
async def garbage(world: World, kind: str) -> Attempt:
    return await serve_once(world, kind, _GARBAGE[kind]())
