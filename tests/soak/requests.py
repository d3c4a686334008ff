"""Attacks with a HandshakeReq: bad certificates, forged fields, skewed clocks, repeats, and floods of them."""

from __future__ import annotations

import asyncio

from fastsec import profile
from fastsec.pki.identity import OsiName
from fastsec.secpdu.fields import Carrier
from fastsec.secpdu.model import DhPublic, algorithm_id
from forge import RSA, UNKNOWN_SIGNATURE, flip_last, forge
from reference.keys import DhKey

from .arena import INITIATE, Attempt, World, associated, attack
from .garbage import FAR
from .pki import MODES
from .wire import TurnedAway, utc_ms

REQ = Carrier.ASSOCIATE_REQ
FLOOD = 40
CROWD = 80
_BY = "mallory"


async def offer(world: World, kind: str, calling: OsiName, pdu: bytes) -> Attempt:
    """Send a HandshakeReq and wait for the end."""
    line = await world.dial(kind, calling)
    try:
        await line.call(pdu)
    except TurnedAway:
        line.close()
        raise TurnedAway(line.at) from None
    await line.until_closed()
    return Attempt(kind, line.at, ending=line.ending or "closed")


# --- certificates -----------------------------------------------------------------------------------------------------
_CERTIFICATES = ("expired", "future", "usage", "oversize", "weak", "foreign", "self", "forged", "revoked")


@attack(*(f"certificate-{kind}" for kind in _CERTIFICATES))
async def certificate(world: World, kind: str) -> Attempt:
    name = "caller-" + kind.partition("-")[2]
    pdu = world.peer(name).start(INITIATE, utc_ms())
    return await offer(world, kind, world.people[name].name, pdu)


@attack("far-certificate-foreign")
async def foreign_to_gateway(world: World, kind: str) -> Attempt:
    """The gateways have an authority of their own."""
    actor = world.people["mallory"]
    line = await world.dial(kind, actor.name, FAR)
    try:
        await line.call(world.peer("mallory").start(INITIATE, utc_ms()))
    except TurnedAway:
        line.close()
        raise TurnedAway(line.at) from None
    await line.until_closed()
    return Attempt(kind, line.at, ending=line.ending or "closed")


@attack("certificate-other-name")
async def other_name(world: World, kind: str) -> Attempt:
    """A good certificate, but the caller gives another's address."""
    pdu = world.peer(_BY).start(INITIATE, utc_ms())
    return await offer(world, kind, world.people["victim-ae"].name, pdu)


@attack("certificate-borrowed")
async def borrowed(world: World, kind: str) -> Attempt:
    """The victim's certificate, signed with the attacker's key."""
    victim = world.people["victim-ae"]
    pdu = world.peer(_BY, certificate=victim.certificate).start(INITIATE, utc_ms())
    return await offer(world, kind, victim.name, pdu)


# --- fields -----------------------------------------------------------------------------------------------------------
_OTHER_HMAC = algorithm_id(profile.AES128_CBC)
_FORGED = {
    "request-signature": {"signature": flip_last},
    "request-unknown-algorithm": {"sig_alg": UNKNOWN_SIGNATURE},
    "request-algorithm-differs": {"algo": RSA},
    "request-protocol": {"pp": "IEC 61850-8-2"},
    "request-version": {"version": 2},
    "request-group": {"dh_key": (DhPublic(99, b"\x04" + bytes(64)),)},
    "request-off-curve": {"dh_key": (DhPublic(23, b"\x04" + b"\x01" * 64),)},
    "request-hmac": {"hmac": _OTHER_HMAC},
    "request-without-encryption": {"conf_params": 0},
}


@attack(*_FORGED)
async def forged(world: World, kind: str) -> Attempt:
    actor = world.people[_BY]
    genuine = world.peer(_BY).start(INITIATE, utc_ms())
    return await offer(world, kind, actor.name, forge(REQ, genuine, actor.credential, **_FORGED[kind]))


@attack("request-two-numbers")
async def two_numbers(world: World, kind: str) -> Attempt:
    actor, peer = world.people[_BY], world.peer(_BY)
    genuine = peer.start(INITIATE, utc_ms())
    return await offer(world, kind, actor.name, forge(REQ, genuine, actor.credential, asso_id=f"{peer.number}:2"))


@attack("request-downgrade")
async def downgrade(world: World, kind: str) -> Attempt:
    """Integrity alone where the server insists on encryption."""
    pdu = world.peer("strict", suite=MODES["hmac"][1]).start(INITIATE, utc_ms())
    return await offer(world, kind, world.people["strict"].name, pdu)


@attack("request-brainpool-point")
async def wrong_curve(world: World, kind: str) -> Attempt:
    """A point of one curve under the number of another."""
    actor = world.people[_BY]
    genuine = world.peer(_BY).start(INITIATE, utc_ms())
    value = DhPublic(23, DhKey(28).public)
    return await offer(world, kind, actor.name, forge(REQ, genuine, actor.credential, dh_key=(value,)))


_CLOCKS = {"clock-behind": -11 * 60_000, "clock-ahead": 11 * 60_000, "clock-next-year": 365 * 86_400_000}


@attack(*_CLOCKS)
async def clock(world: World, kind: str) -> Attempt:
    pdu = world.peer(_BY).start(INITIATE, utc_ms() + _CLOCKS[kind])
    return await offer(world, kind, world.people[_BY].name, pdu)


# --- repeats ----------------------------------------------------------------------------------------------------------
async def accepted(world: World, kind: str, name: str) -> bytes:
    """A HandshakeReq that the server has accepted; its association is given up."""
    peer = world.peer(name)
    pdu = peer.start(INITIATE, utc_ms())
    line, acceptance = await associated(world, kind, name, pdu)
    world.asides.append(Attempt(kind, line.at, aside=True))
    peer.take_handshake(acceptance, utc_ms())
    line.abort(peer.control("ApplAbort", utc_ms()))
    await line.until_closed()
    return pdu


@attack("replay-request")
async def replay(world: World, kind: str) -> Attempt:
    pdu = await accepted(world, kind, "repeater")
    return await offer(world, kind, world.people["repeater"].name, pdu)


@attack("replay-request-signed-anew")
async def replay_signed(world: World, kind: str) -> Attempt:
    """The same time and number in other octets: only the peer itself can make that."""
    actor = world.people["repeater"]
    pdu = forge(REQ, await accepted(world, kind, "repeater"), actor.credential, conf_params=2 | 4)
    return await offer(world, kind, actor.name, pdu)


@attack("number-in-use")
async def in_use(world: World, kind: str) -> Attempt:
    """A number that is live in another association of the same peer."""
    actor, first = world.people["repeater"], world.peer("repeater")
    line, acceptance = await associated(world, kind, "repeater", first.start(INITIATE, utc_ms()))
    world.asides.append(Attempt(kind, line.at, aside=True))
    first.take_handshake(acceptance, utc_ms())
    try:
        second = world.peer("repeater", number=first.number)
        return await offer(world, kind, actor.name, second.start(INITIATE, utc_ms() + 1))
    finally:
        line.abort(first.control("ApplAbort", utc_ms()))
        await line.until_closed()


# --- floods -----------------------------------------------------------------------------------------------------------
async def gather(offers: list) -> list[Attempt]:
    """All at once; those that were turned away are attempts too."""
    made: list[Attempt] = []
    for result in await asyncio.gather(*offers, return_exceptions=True):
        if isinstance(result, TurnedAway):
            made.append(Attempt("", at=str(result), ending="away"))
        elif isinstance(result, BaseException):
            raise result
        else:
            made.append(result)
    return made


def _named(kind: str, made: list[Attempt]) -> list[Attempt]:
    for one in made:
        one.kind = kind
    return made


@attack("flood-signatures")
async def flood_signatures(world: World, kind: str) -> list[Attempt]:
    """Good in every respect but the signature, so that each costs a verification."""
    actor = world.people["flooder"]

    def pdu() -> bytes:
        return forge(REQ, world.peer("flooder").start(INITIATE, utc_ms()), actor.credential, signature=flip_last)

    return _named(kind, await gather([offer(world, kind, actor.name, pdu()) for _ in range(FLOOD)]))


@attack("flood-repeats")
async def flood_repeats(world: World, kind: str) -> list[Attempt]:
    actor = world.people["repeater"]
    pdu = await accepted(world, kind, "repeater")
    return _named(kind, await gather([offer(world, kind, actor.name, pdu) for _ in range(FLOOD)]))


@attack("flood-handshakes")
async def flood_handshakes(world: World, kind: str) -> list[Attempt]:
    """Perfect handshakes that nobody confirms, more than one peer may have."""
    actor = world.people["flooder"]
    return _named(
        kind,
        await gather(
            [offer(world, kind, actor.name, world.peer("flooder").start(INITIATE, utc_ms())) for _ in range(CROWD)]
        ),
    )


@attack("half-unconfirmed")
async def unconfirmed(world: World, kind: str) -> Attempt:
    """A perfect handshake, then silence."""
    actor = world.people["sleeper"]
    return await offer(world, kind, actor.name, world.peer("sleeper").start(INITIATE, utc_ms()))
