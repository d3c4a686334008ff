"""Attacks by an authenticated peer: its handshake and its certificate are good, what it sends afterwards is not."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from fastsec.control import make_control
from fastsec.envs.osi import DataInd, presentation, session
from fastsec.secpdu.fields import SecPduKind
from forge import flip_last
from reference.keys import DhKey
from reference.peer import ReferencePeer
from reference.transfer import Sender, time_ms

from . import pki
from .arena import INITIATE, REQUEST, Attempt, World, associated, attack
from .serving import answer_to
from .wire import Line, utc_ms

MODES = ("ae", "hmac", "gmac", "cbc")


class Inside:
    """An open association of an attacker with the server."""

    def __init__(self, world: World, line: Line, peer: ReferencePeer, name: str) -> None:
        self.world = world
        self.line = line
        self.peer = peer
        self.actor = world.people[name]

    def send(self, **more: object) -> bytes:
        """A good PDU."""
        return self.peer.tx.seal(REQUEST, utc_ms(), **more)

    async def answered(self) -> None:
        """Wait until the server has answered with data."""
        while isinstance(found := await self.line.take(), DataInd):
            if self.peer.receive(found.pdu, utc_ms()).appl_data == answer_to(REQUEST):
                return
        raise ConnectionError(f"no answer but {found}")

    async def later(self) -> None:
        """Until the clock shows another time than that of the last PDU sent."""
        while utc_ms() <= time_ms(self.peer.tx.time):  # noqa: ASYNC110 - the clock has no event
            await asyncio.sleep(0.001)


async def enter(world: World, kind: str, name: str) -> Inside:
    """Handshake, and one request answered: both sides are confirmed."""
    peer = world.peer(name)
    line, acceptance = await associated(world, kind, name, peer.start(INITIATE, utc_ms()))
    peer.take_handshake(acceptance, utc_ms())
    made = Inside(world, line, peer, name)
    line.data(made.send())
    await made.answered()
    return made


Script = Callable[[Inside], Awaitable[None] | None]
_EVERY_MODE: dict[str, Script] = {}
_AE: dict[str, Script] = {}


def every_mode(made: Script) -> Script:
    """In all four modes."""
    _EVERY_MODE[made.__name__.replace("_", "-")] = made
    return made


def in_ae(made: Script) -> Script:
    """With authenticated encryption alone; the mode makes no difference."""
    _AE[made.__name__.replace("_", "-")] = made
    return made


# --- transfers --------------------------------------------------------------------------------------------------------
@every_mode
def data_twice(own: Inside) -> None:
    pdu = own.send()
    own.line.data(pdu)
    own.line.data(pdu)


@every_mode
async def data_old(own: Inside) -> None:
    """A PDU from before one that came at a later time."""
    await own.later()
    old = own.send()
    own.line.data(old)
    await own.later()
    own.line.data(own.send())
    own.line.data(old)


@every_mode
def data_bad_icv(own: Inside) -> None:
    own.line.data(flip_last(own.send()))


@every_mode
async def data_gap(own: Inside) -> None:
    """One sequence number left out."""
    await own.later()
    own.line.data(own.send())
    own.peer.tx.seq += 1
    own.line.data(own.peer.tx.seal(REQUEST, time_ms(own.peer.tx.time)))


@every_mode
def data_from_the_future(own: Inside) -> None:
    own.line.data(own.peer.tx.seal(REQUEST, utc_ms() + 11 * 60_000))


@every_mode
def data_garbage(own: Inside) -> None:
    own.line.data(b"\x30\x82\x01\x00" + bytes(range(256)))


@every_mode
def data_truncated(own: Inside) -> None:
    """Half of a PDU, in frames that say so."""
    pdu = own.send()
    own.line.data(pdu[: len(pdu) // 2])


@every_mode
def data_of_another_association(own: Inside) -> None:
    """Numbers of another association, whatever the keys."""
    own.peer.tx._asso_id = b"\x0c\x071" + b"01:101"
    own.line.data(own.send())


@every_mode
def data_in_the_other_kind(own: Inside) -> None:
    """ClearTransfer where encryption was agreed on, and the other way round."""
    tx = own.peer.tx
    encrypted = bool(tx.suite.aea or tx.suite.encr)
    other = own.world.people["mallory-hmac" if encrypted else "mallory"].mode
    suite = pki.MODES[other][1]
    own.line.data(Sender(suite, own.peer.asso_id, bytes(32), bytes(16), tx.time, tx).seal(REQUEST, utc_ms()))


@in_ae
def data_in_another_context(own: Inside) -> None:
    """In the presentation context that is for plain MMS."""
    own.line.tsdu(session.encode_data(presentation.user_data(3, REQUEST)))


@in_ae
def data_plain_in_the_right_context(own: Inside) -> None:
    own.line.data(REQUEST)


# --- key update -------------------------------------------------------------------------------------------------------
@in_ae
def rekey_handshake_value(own: Inside) -> None:
    """The value of the own handshake again: it would bring the first keys back."""
    own.line.data(own.send(rekey=(23, own.peer._dh.public)))


@in_ae
def rekey_handshake_value_mirrored(own: Inside) -> None:
    """The negative of the own point: another value, the same keys."""
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    value = own.peer._dh.public
    other = value[:33] + (prime - int.from_bytes(value[33:], "big")).to_bytes(32, "big")
    own.line.data(own.send(rekey=(23, other)))


@in_ae
def rekey_server_value(own: Inside) -> None:
    own.line.data(own.send(rekey=(23, own.peer._peer_dh)))


@in_ae
async def rekey_old_value(own: Inside) -> None:
    """A value that an earlier update of this association had, when the time for an update has come."""
    secret = secrets.randbits(255) | 1
    own.line.data(own.peer.update_keys(utc_ms(), REQUEST, dh_secret=secret))
    await own.answered()
    await asyncio.sleep(own.world.waits["OUR_REKEY_DISTANCE_SERVER"] + 0.2)
    own.line.data(own.send(rekey=(23, DhKey(23, secret).public)))


@in_ae
async def rekey_too_early(own: Inside) -> None:
    own.line.data(own.peer.update_keys(utc_ms(), REQUEST))
    await own.answered()
    own.line.data(own.send(rekey=(23, DhKey(23).public)))


@in_ae
def rekey_off_curve(own: Inside) -> None:
    own.line.data(own.send(rekey=(23, b"\x04" + b"\x01" * 64)))


@in_ae
def rekey_other_group(own: Inside) -> None:
    own.line.data(own.send(rekey=(28, DhKey(28).public)))


@in_ae
def changed_key_by_a_client(own: Inside) -> None:
    own.line.data(own.send(changed_key=True))


@in_ae
def rekey_asked_by_a_client(own: Inside) -> None:
    own.line.data(own.send(req_rekey=True))


@in_ae
async def rekey_then_old_keys(own: Inside) -> None:
    """After the carrier the old key is over."""
    old = own.peer.tx
    own.line.data(own.peer.update_keys(utc_ms(), REQUEST))
    await own.answered()
    own.line.data(Sender.seal(old, REQUEST, utc_ms()))


# --- control PDUs -----------------------------------------------------------------------------------------------------
def _by(own: Inside, who: str, kind: SecPduKind) -> bytes:
    return make_control(own.world.people[who].credential, kind, own.peer.asso_id, utc_ms() + 5, None, None)


@in_ae
def release_by_a_third(own: Inside) -> None:
    own.line.release(_by(own, "second-ae", SecPduKind.RELEASE_REQ))


@in_ae
def abort_by_a_third(own: Inside) -> None:
    own.line.abort(_by(own, "second-ae", SecPduKind.APPL_ABORT))


@in_ae
def security_abort_by_a_third(own: Inside) -> None:
    own.line.abort(_by(own, "second-ae", SecPduKind.DT_SEC_ABORT))


@in_ae
def release_with_a_bad_signature(own: Inside) -> None:
    own.line.release(flip_last(own.peer.control("ReleaseReq", utc_ms())))


@in_ae
def release_at_the_time_of_the_handshake(own: Inside) -> None:
    own.peer._time = time_ms(own.peer._start_time) - 1
    own.line.release(own.peer.control("ReleaseReq", 0))


@in_ae
def release_before_the_handshake(own: Inside) -> None:
    own.peer._time = time_ms(own.peer._start_time) - 1000
    own.line.release(own.peer.control("ReleaseReq", 0))


@in_ae
def release_from_the_future(own: Inside) -> None:
    own.line.release(own.peer.control("ReleaseReq", utc_ms() + 11 * 60_000))


@in_ae
def release_of_another_association(own: Inside) -> None:
    own.peer.asso_id = "1:999"
    own.line.release(own.peer.control("ReleaseReq", utc_ms()))


@in_ae
def release_garbage(own: Inside) -> None:
    own.line.release(b"\x30\x20" + bytes(32))


@in_ae
def abort_garbage(own: Inside) -> None:
    own.line.abort(b"\xa1\x20" + bytes(32))


@in_ae
def abort_with_a_bad_signature(own: Inside) -> None:
    own.line.abort(flip_last(own.peer.control("ApplAbort", utc_ms())))


@in_ae
def release_response_unasked(own: Inside) -> None:
    own.line.tsdu(session.encode_disconnect(presentation.user_data(1, b"\x63\x00")))


async def _run(world: World, kind: str, name: str, script: Script) -> Attempt:
    own = await enter(world, kind, name)
    done = script(own)
    if done is not None:
        await done
    if own.line.osi.closed:  # our own stack thinks that it has ended; the octets have to be read all the same
        own.line.end()
    await own.line.until_closed()
    return Attempt(kind, own.line.at, ending=own.line.ending or "closed")


def _enter(script: str, mode: str, made: Script) -> None:
    name = "mallory" if mode == "ae" else f"mallory-{mode}"

    @attack(f"{script}-{mode}" if script in _EVERY_MODE else script)
    async def run(world: World, kind: str) -> Attempt:
        return await _run(world, kind, name, made)


for _script, _made in _EVERY_MODE.items():
    for _mode in MODES:
        _enter(_script, _mode, _made)
for _script, _made in _AE.items():
    _enter(_script, "ae", _made)
