"""Attacks by a stranger without any certificate: garbage at every layer, half associations, floods of connections."""

from __future__ import annotations

import asyncio
import os
import random

from fastsec import limits
from fastsec.envs.osi import OsiParams, acse, presentation, session
from fastsec.envs.osi.size import encode_request
from fastsec.pki.identity import OsiName

from . import pki
from .arena import INITIATE, REQUEST, Attempt, World, attack
from .wire import Line, TurnedAway, params

STRANGER = OsiName("1.1.1.999.666", 12)
FAR = OsiName("1.1.1.999.2", 12)  # the gateway at the plant, as in the gateways' tests
CR = bytes.fromhex("0300001611e00000000100c0010dc2020001c1020001")
FLOOD = 300


async def finish(line: Line, kind: str) -> Attempt:
    """Wait for the server to end it."""
    await line.until_closed()
    if not line.heard and line.ending == "":
        return Attempt(kind, line.at, ending="closed")
    return Attempt(kind, line.at, ending=line.ending or "closed")


async def _dial(world: World, kind: str) -> Line:
    return await world.dial(kind, STRANGER, FAR if kind.startswith("far-") else pki.SERVER)


async def _connected(world: World, kind: str) -> Line:
    line = await _dial(world, kind)
    try:
        await line.transport()
    except TurnedAway:
        line.close()
        raise TurnedAway(line.at) from None
    return line


# --- garbage ----------------------------------------------------------------------------------------------------------
def _frame(tpdu: bytes) -> bytes:
    return b"\x03\x00" + (len(tpdu) + 4).to_bytes(2, "big") + tpdu


_RAW = {
    "tpkt-garbage": lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tpkt-random": lambda: b"\xff" + os.urandom(64),
    "tpkt-length": lambda: b"\x03\x00\x00\x03",
    "cotp-unknown": lambda: _frame(b"\x06\x50\x00\x00\x00\x01\x00"),
    "cotp-data-first": lambda: _frame(b"\x02\xf0\x80" + os.urandom(20)),
    "cotp-confirm-first": lambda: _frame(b"\x06\xd0\x00\x00\x00\x01\x00"),
    "cotp-header": lambda: _frame(b"\x40\xe0\x00\x00\x00\x01\x00"),
    "cotp-class-4": lambda: _frame(b"\x06\xe0\x00\x00\x00\x01\x40"),
}


def _names(kind: str) -> tuple[str, ...]:
    """At the server, and at both sides of the gateways."""
    return kind, f"near-{kind}", f"far-{kind}"


def _base(kind: str) -> str:
    return kind.removeprefix("near-").removeprefix("far-")


@attack(*(name for kind in _RAW for name in _names(kind)))
async def raw(world: World, kind: str) -> Attempt:
    line = await _dial(world, kind)
    line.raw(_RAW[_base(kind)]())
    return await finish(line, kind)


@attack(*_names("cotp-second-cr"))
async def second_cr(world: World, kind: str) -> Attempt:
    line = await _connected(world, kind)
    line.raw(CR)
    return await finish(line, kind)


@attack(*_names("tsdu-without-end"))
async def endless(world: World, kind: str) -> Attempt:
    """Segments that never say that they are the last."""
    line = await _connected(world, kind)
    piece = _frame(b"\x02\xf0\x00" + bytes(8000))
    for _ in range(limits.OUR_TSDU_MAX // 8000 + 2):
        line.raw(piece)
    return await finish(line, kind)


def _aarq(settings: OsiParams, user_data: bytes) -> bytes:
    return session.encode_connect(settings.cn_header, encode_request(settings, user_data))


def _presentation_garbage(own: OsiParams) -> bytes:
    return session.encode_connect(own.cn_header, b"\x31\x30" + os.urandom(48))


def _acse_garbage(own: OsiParams) -> bytes:
    apdu = b"\x60\x10" + b"\xff" * 16
    return session.encode_connect(own.cn_header, presentation.encode_connect(own.cp_header, 1, apdu))


def _acse_release(own: OsiParams) -> bytes:
    apdu = acse.encode_release(acse.TAG_RLRQ, None)
    return session.encode_connect(own.cn_header, presentation.encode_connect(own.cp_header, 1, apdu))


def _plain_client(own: OsiParams) -> bytes:
    return _aarq(OsiParams(security=False, local=own.local), INITIATE)


def _oversize(own: OsiParams) -> bytes:
    """User data beyond the 10 240 octets of CONNECT, with which our own encoder would not help."""
    user_data = encode_request(own, bytes(10_500))
    content = own.cn_header + b"\xc2\xff" + len(user_data).to_bytes(2, "big") + user_data
    return b"\x0d\xff" + len(content).to_bytes(2, "big") + content


_EVERYWHERE = {
    "session-garbage": lambda own: b"\xee" + os.urandom(40),
    "session-accept": lambda own: session.encode_accept(None, b"", 2),
    "session-data-first": lambda own: session.encode_data(presentation.user_data(5, REQUEST)),
    "presentation-garbage": _presentation_garbage,
    "acse-release-first": _acse_release,
    "connect-oversize": _oversize,
}
_SECURED = {
    "acse-garbage": _acse_garbage,
    "acse-plain-client": _plain_client,
    "secpdu-garbage": lambda own: _aarq(own, b"\x30" + bytes([100]) + os.urandom(100)),
    "secpdu-empty": lambda own: _aarq(own, b"\x30\x00"),
    "secpdu-nested": lambda own: _aarq(own, b"\x30\x80" * 400),
}
_SERVER = {
    "acse-called-other": lambda own: _aarq(params(STRANGER, OsiName("1.1.1.999.9", 12)), b"\x30\x00"),
    "acse-called-qualifier": lambda own: _aarq(params(STRANGER, OsiName("1.1.1.999.1", 13)), b"\x30\x00"),
}
_TSDU = _EVERYWHERE | _SECURED | _SERVER


@attack(
    *(name for kind in _EVERYWHERE for name in _names(kind)),
    *(name for kind in _SECURED for name in (kind, f"far-{kind}")),
    *_SERVER,
)
async def tsdu(world: World, kind: str) -> Attempt:
    line = await _connected(world, kind)
    line.tsdu(_TSDU[_base(kind)](line.osi.params))
    return await finish(line, kind)


# --- half associations ------------------------------------------------------------------------------------------------
@attack(*_names("half-tcp"))
async def tcp_only(world: World, kind: str) -> Attempt:
    return await finish(await _dial(world, kind), kind)


@attack(*_names("half-cr"))
async def cr_only(world: World, kind: str) -> Attempt:
    return await finish(await _connected(world, kind), kind)


@attack("half-aarq-by-octets")
async def slowly(world: World, kind: str) -> Attempt:
    """One octet at a time, slower than the server waits."""
    line = await _connected(world, kind)
    octets = line.channel.frame(_aarq(line.osi.params, bytes(600)))
    closed = asyncio.create_task(line.until_closed())
    pause = world.waits["OUR_ACCEPT_TO_AARQ"] / 100
    for at in range(len(octets) - 1):
        if closed.done():
            break
        line.raw(octets[at : at + 1])
        await asyncio.sleep(pause)
    await closed
    return Attempt(kind, line.at, ending=line.ending or "closed")


@attack("flood-connections")
async def flood(world: World, kind: str) -> list[Attempt]:
    """More connections at once than may be without an association; some say a little."""

    async def one() -> Attempt:
        line = await world.dial(kind, STRANGER)
        if random.random() < 0.3:
            line.raw(CR[: random.randrange(1, len(CR))])
        return await finish(line, kind)

    return await asyncio.gather(*(one() for _ in range(FLOOD)))
