"""The whole receive path, from octets in chunks to outputs and events, of client and server in every state.

An input is a list of steps: octets of some layer, PDUs of the peer that knows the keys (``oracle.Peer``), calls of the
application, clocks that move, threads that are held up. ``live.Bench`` checks what may never happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from engine_pair import CLIENT, INITIATE, RESPONSE, UTC
from fastsec._core.cursor import tlv
from fastsec._core.guard import MODE_AE
from fastsec._core.tpkt import dt, tpkt
from fastsec.aio.handler import Reject
from fastsec.aio.plain import BareAssociation, PlainAssociation
from fastsec.association import Role
from fastsec.control import CARRIER_OF
from fastsec.envs.osi import OsiAddress, OsiParams, acse, cotp, presentation, session
from fastsec.errors import DecodeError
from fastsec.handshake import MadeRequest, TakenRequest, make_acceptance, make_request
from fastsec.keys import derive, hash_acceptance, hash_request
from fastsec.pki.path import VerifiedPeer
from fastsec.secpdu.der import assemble, decode, encode_handshake_tbs
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import Handshake
from fuzz.kit import Bits, Target, edited, packed
from fuzz.live import Bench
from fuzz.oracle import CLIENT_PARAMS, CLOCK, FORGERS, POLICIES, SIGNERS, Keys, Peer, Scene, frames_of, tsdu_of
from fuzz.targets.osi import CONVERSATIONS, framed, piece

STEPS_MAX: Final = 10
_STRIDES: Final = (0, 1, 17, 200)


@lru_cache
def scene(number: int) -> Scene:
    """One scene per policy, made when first wanted."""
    return Scene(POLICIES[number])


class AnyPdu(set[bytes]):
    """Where every PDU may be delivered: without security there is nobody to protect one."""

    def __contains__(self, item: object) -> bool:
        return True


# --- steps that every connection under test knows -------------------------------------------------------------------


def _send(bench: Bench, octets: bytes, what: int) -> None:
    stride = _STRIDES[what >> 6]
    if stride == 1 and len(octets) > 64:
        stride = 7
    bench.feed(octets, stride)


def _garbage(bench: Bench, peer: Peer | None, bits: Bits, what: int) -> None:
    _send(bench, piece(bits, what >> 4), what)


def _local(bench: Bench, peer: Peer | None, bits: Bits, what: int) -> None:
    """The application, or the system, does something."""
    connection = bench.connection
    which = bits.octet()
    match which & 15:
        case 0:
            bench.call(connection.write, tlv(0xA1, bits.chunk()))
        case 1:
            bench.call(connection.write_many, [tlv(0xA1, bytes(n)) for n in range(bits.octet() & 7)])
        case 2:
            bench.call(connection.release)
        case 3:
            bench.call(connection.update_keys)
        case 4:
            bench.call(connection.abort, tlv(0xA4, b"") if which & 16 else None)
        case 5:
            bench.call(connection.pause_reading)
        case 6:
            bench.call(connection.resume_reading)
            bench.deliver()
        case 7:
            bench.hold = not bench.hold
            bench.settle()
        case 8:
            if bench.runtime.jobs.waiting:
                bench.run_job()
            bench.settle()
        case 9:
            bench.call(connection.connection_lost, None)
        case 10:
            bench.call(connection.cut)
        case 11:
            bench.call(connection.pause_writing)
            bench.call(connection.resume_writing)
        case 12:
            bench.handler.answer = (RESPONSE, Reject(), Reject(None, True), Reject(tlv(0xAA, b"")))[which >> 4 & 3]
        case _:
            bench.call(connection.write, bits.chunk())
    bench.deliver()


def _time(bench: Bench, peer: Peer | None, bits: Bits, what: int) -> None:
    """Clocks: the wall clock steps or goes on, the monotonic one goes on."""
    scale = (10, 1000, 60_000, 3_600_000)[what >> 4 & 3]
    mono = bits.octet() * scale
    bench.elapse(mono if what & 64 else bits.signed() * scale, mono)
    bench.deliver()


def _replayed(bench: Bench, peer: Peer | None, bits: Bits, what: int) -> None:
    """Something the peer sent before, or that the side under test sent itself, comes (again)."""
    sent = peer.frames if peer is not None and not what & 16 else bench.wire.out
    if sent:
        octets = sent[bits.octet() % len(sent)]
        _send(bench, edited(bits, octets) if what & 32 else octets, what)


# --- steps of a secured association ---------------------------------------------------------------------------------


def _tell(bench: Bench, peer: Peer, octets: bytes, what: int) -> None:
    if octets:
        peer.frames.append(octets)
        _send(bench, octets, what)


def _tell_signed(bench: Bench, peer: Peer, octets: bytes, what: int) -> None:
    """What somebody signed whose word counts for nothing brings about nothing that a good signature would."""
    idle = not (bench.unread or bench.runtime.jobs.waiting or bench.hold)
    before = bench.handler.heard
    _tell(bench, peer, octets, what)
    assert not (idle and peer.forged) or bench.handler.heard == before, "a forged signature was believed"


def _data(bench: Bench, peer: Peer, bits: Bits, what: int) -> None:
    count = 1 + (what >> 4 & 3)
    size = bits.octet()
    octets = b"".join([peer.data(peer.transfer(tlv(0xA0, bytes((size,)) * size))) for _ in range(count)])
    _tell(bench, peer, octets, what)


def _changed_data(bench: Bench, peer: Peer, bits: Bits, what: int) -> None:
    how = bits.octet()
    appl = tlv(0xA0, b"changed") if how & 8 else bits.chunk()
    if not how & 4 and peer.sealing.mode != MODE_AE:
        # What is between token and ICV is as genuine as the ICV, wherever the token now ends and whatever its IV is.
        bench.allowed = AnyPdu()
    pdu = peer.transfer(appl, bits=bits, how=how)
    _tell(bench, peer, peer.data(pdu), what)


def _key_fields(bench: Bench, peer: Peer, bits: Bits, what: int) -> None:
    which = bits.octet()
    extra = b""
    if which & 1:
        extra += tlv(0xA1, tlv(0x02, b"\x17") + tlv(0x04, bits.chunk()))
    if which & 2:
        extra += tlv(0x82, b"\xff" if which & 16 else b"\0")
    if which & 4:
        extra += tlv(0x83, b"\xff" if which & 32 else b"\0")
    if which & 8:
        extra += tlv(0x85, b"later")
    _tell(bench, peer, peer.data(peer.transfer(b"\x05\0" if which & 64 else tlv(0xA0, b"k"), extra)), what)


def _update(bench: Bench, peer: Peer, bits: Bits, what: int) -> None:
    """The peer's part of a key update."""
    if peer.role is Role.CLIENT:
        pdu = peer.answer_update()
        _tell(bench, peer, peer.data(pdu) if pdu else b"", what)
    else:
        which = bits.octet()
        pdu = peer.carrier(23 if which < 200 else which - 180, bits.octet() if which & 1 else 0)
        _tell(bench, peer, peer.data(pdu), what)


def _control(bench: Bench, peer: Peer, bits: Bits, what: int) -> None:
    kind, pdu = peer.control(bits, bits.octet())
    carrier = CARRIER_OF[kind]
    if what & 16:
        carrier = tuple(Carrier)[bits.octet() % 6]
    _tell_signed(bench, peer, peer.carried(carrier, pdu, what >> 5), what)


def _release(bench: Bench, peer: Peer, bits: Bits, what: int) -> None:
    """An orderly ReleaseReq or ReleaseRsp, unchanged."""
    kind = SecPduKind.RELEASE_REQ if not what & 16 else SecPduKind.RELEASE_RSP
    number = tuple(CARRIER_OF).index(kind)
    _, pdu = peer.control(Bits(b""), number)
    _tell(bench, peer, peer.carried(CARRIER_OF[kind], pdu), what)


def _carried(bench: Bench, peer: Peer, bits: Bits, what: int) -> None:
    """Any octets as SecPDU of any carrier, or none."""
    carrier = tuple(Carrier)[bits.octet() % 6]
    octets = bits.chunk()
    pdu = octets if octets[:1] not in (b"", b"\0") else None
    _tell(bench, peer, peer.carried(carrier, pdu, what >> 4), what)


_OPEN_STEPS: Final[tuple[Callable[[Bench, Any, Bits, int], None], ...]] = (
    _data,
    _changed_data,
    _key_fields,
    _update,
    _control,
    _release,
    _carried,
    _garbage,
    _local,
    _time,
    _replayed,
    _local,
)


def opened(role: Role, data: bytes) -> None:
    """An association of this role that has just opened, and up to ten steps."""
    bits = Bits(data)
    bench, peer = scene(bits.octet() % len(POLICIES)).open(role)
    for _ in range(STEPS_MAX):
        if not bits.more():
            break
        what = bits.octet()
        _OPEN_STEPS[(what & 15) % len(_OPEN_STEPS)](bench, peer, bits, what)
    bench.end()


# --- the handshake --------------------------------------------------------------------------------------------------


@lru_cache
def _request(number: int) -> tuple[MadeRequest, Handshake]:
    """The client's request, made once; its key pair is not wiped."""
    config = scene(number).configs[Role.CLIENT]
    made = make_request(config, config.policy, 17, UTC, INITIATE, 8000)
    pdu = decode(Carrier.ASSOCIATE_REQ, made.pdu)
    assert isinstance(pdu, Handshake)
    return made, pdu


def _signed_anew(bits: Bits, pdu: Handshake, peer: Peer, fields: int) -> tuple[bytes, bytes]:
    """(tbs, SecPDU): the handshake PDU after changes before and after signing."""
    number = bits.octet() % 5 if fields & 2 else 0
    peer.forged = number in FORGERS
    signer = SIGNERS[peer.role is Role.CLIENT][number]
    tbs = pdu.tbs
    if number:
        tbs = encode_handshake_tbs(pdu.token1._replace(pk_cert=signer.certificate), pdu.appl_data)
    if fields & 1:
        tbs = edited(bits, tbs)
    pp = bits.chunk().decode("latin-1")[:30] if fields & 4 else pdu.pp
    octets = assemble(pdu.kind, pp, tbs, pdu.algo, signer.signer.sign(tbs))
    if fields & 8:
        octets = edited(bits, octets)
    return tbs, octets


class _Beginner(Peer):
    """The peer before there are keys."""

    def __init__(self, number: int, role: Role, bench: Bench) -> None:
        model = scene(number)
        key = model.server_key
        assert key is not None
        super().__init__(model, role, bench, model.opened[role].okm, "", key)
        self.number = number
        self.read = 0

    def heard(self, code: int, si: int = 0) -> bytes | None:
        """The last TSDU of this SPDU, or TPDU of this code, that the side under test wrote."""
        for kind, octets in reversed(frames_of(b"".join(self.bench.wire.out))):
            if kind & 0xF0 == code & 0xF0 and (not si or octets[0] == si):
                return octets
        return None


def _connect(bench: Bench, peer: _Beginner, bits: Bits, what: int) -> None:
    """CR or CC as they should be."""
    if peer.role is Role.SERVER:
        frame = tpkt(cotp.encode_connect(CLIENT_PARAMS.connect_request))
    else:
        answer = cotp.answer(CLIENT_PARAMS.connect_request, cotp.REFERENCE, 65_408)
        frame = tpkt(cotp.encode_connect(answer))
    _tell(bench, peer, frame, what)


def _shake(bench: Bench, peer: _Beginner, bits: Bits, what: int) -> None:
    """The peer's handshake PDU, changed or not."""
    fields = bits.octet()
    if peer.role is Role.SERVER:
        _, pdu = _request(peer.number)
        _, octets = _signed_anew(bits, pdu, peer, fields)
        tsdu = tsdu_of(Carrier.ASSOCIATE_REQ, octets, peer.scene.osi[peer.role], 0)
        if fields & 16:
            tsdu = edited(bits, tsdu)
        _tell_signed(bench, peer, dt(tsdu, 65_531), what)
        _adopt(peer)
    else:
        _accept(bench, peer, bits, what, fields)


def _adopt(peer: _Beginner) -> None:
    """As client: take the keys from the server's acceptance, if there is one."""
    try:
        tsdu = peer.heard(0xF0, session.SI_AC)
        if tsdu is None:
            return
        ppdu = presentation.decode_accept(session.decode(tsdu).user_data)
        aare = acse.decode(ppdu.user_data[0].value)
        pdu = decode(Carrier.ASSOCIATE_RSP, aare.user_information[0].value)  # type: ignore[index]
    except DecodeError:
        return
    assert isinstance(pdu, Handshake)
    made, _ = _request(peer.number)
    public = pdu.token1.dh_key[0].public
    peer.h2 = hash_acceptance(pdu.tbs, made.h1)
    peer.asso_id = pdu.token1.asso_id
    own = made.keys[0]
    _keyed(peer, own.derive(public))


def _keyed(peer: _Beginner, z: Any) -> None:
    params = peer.scene.params
    okm = derive(params, z, peer.h2)
    peer.keys = Keys(params, okm.reveal())
    okm.wipe()
    peer.seq = -1


def _accept(bench: Bench, peer: _Beginner, bits: Bits, what: int, fields: int) -> None:
    """As server: answer the client's request."""
    tsdu = peer.heard(0xF0, session.SI_CN)
    if tsdu is None:
        return
    try:
        ppdu = presentation.decode_connect(session.decode(tsdu).user_data)
        aarq = acse.decode(ppdu.user_data[0].value)
        request = decode(Carrier.ASSOCIATE_REQ, aarq.user_information[0].value)  # type: ignore[index]
    except DecodeError as error:
        raise AssertionError("our own request does not decode") from error
    assert isinstance(request, Handshake)
    token = request.token1
    h1 = hash_request(request.tbs)
    peer_of_server: VerifiedPeer = peer.scene.opened[Role.SERVER].engine.peer  # type: ignore[assignment]
    taken = TakenRequest(
        peer_of_server, CLIENT, token.asso_id, token.time, INITIATE, h1, _suite(peer.number), token.dh_key[0], None
    )
    asso_id = f"{token.asso_id}:{bits.octet() if fields & 32 else 5}"
    made = make_acceptance(peer.scene.configs[Role.SERVER], taken, asso_id, CLOCK.utc_ms, RESPONSE, 8000)
    pdu = decode(Carrier.ASSOCIATE_RSP, made.pdu)
    assert isinstance(pdu, Handshake)
    peer.forged = False
    tbs, octets = (pdu.tbs, made.pdu) if not fields & 15 else _signed_anew(bits, pdu, peer, fields)
    tsdu = tsdu_of(Carrier.ASSOCIATE_RSP, octets, peer.scene.osi[peer.role], 1)
    if fields & 16:
        tsdu = edited(bits, tsdu)
    peer.h2 = hash_acceptance(tbs, h1)
    peer.asso_id = asso_id
    peer.server_key = made.key
    made.okm.wipe()
    _keyed(peer, made.key.derive(token.dh_key[0].public))
    _tell_signed(bench, peer, dt(tsdu, 65_531), what)


@lru_cache
def _suite(number: int) -> Any:
    from fastsec.negotiation import select_mode

    _, pdu = _request(number)
    return select_mode(pdu.token1, scene(number).configs[Role.SERVER].policy)


_SHAKE_STEPS: Final[tuple[Callable[[Bench, Any, Bits, int], None], ...]] = (
    _connect,
    _shake,
    _data,
    _garbage,
    _local,
    _time,
    _control,
    _replayed,
    _carried,
    _changed_data,
    _update,
    _release,
)


def beginning(role: Role, data: bytes) -> None:
    """A connection of this role from TCP on."""
    bits = Bits(data)
    number = bits.octet()
    bench = scene(number % len(POLICIES)).fresh(role)
    peer = _Beginner(number % len(POLICIES), role, bench)
    bench.begin()
    if number & 64:
        _connect(bench, peer, bits, 0)
    if number & 128:
        _shake(bench, peer, Bits(b""), 0)
    for _ in range(STEPS_MAX):
        if not bits.more():
            break
        what = bits.octet()
        _SHAKE_STEPS[(what & 15) % len(_SHAKE_STEPS)](bench, peer, bits, what)
    bench.end()


# --- without security -----------------------------------------------------------------------------------------------

_PLAIN: Final = OsiParams(
    security=False,
    local=OsiAddress(ap_title="1.1.1.999", ae_qualifier=12),
    remote=OsiAddress(ap_title="1.1.1.999.1", ae_qualifier=12),
)
_ASKING: Final = OsiParams(security=False, local=_PLAIN.remote, password=b"secret")
_PLAIN_FRAMES: Final = [tpkt(octets) for octets in CONVERSATIONS]


def _conversation(bench: Bench, peer: Peer | None, bits: Bits, what: int) -> None:
    octets = _PLAIN_FRAMES[bits.octet() % len(_PLAIN_FRAMES)]
    _send(bench, octets if what & 16 else framed(edited(bits, octets[4:])), what)


_PLAIN_STEPS: Final[tuple[Callable[[Bench, Any, Bits, int], None], ...]] = (
    _conversation,
    _garbage,
    _local,
    _time,
    _replayed,
    _conversation,
)


def plain(data: bytes) -> None:
    """A plain or bare association: what stands between the gateway and its neighbour."""
    bits = Bits(data)
    which = bits.octet()
    client = bool(which & 1)
    CLOCK.reset()
    CLOCK.install()
    bare = which & 6 == 6
    params = None if bare else _ASKING if which & 6 == 4 and not client else _PLAIN
    engine = BareAssociation(client) if bare else PlainAssociation(client)
    initiate = tlv(0xA8, b"abc") if client else b""
    bench = Bench(CLOCK, engine, params, client=client, answer=tlv(0xA9, b"abc"), initiate=initiate)
    bench.allowed = AnyPdu()
    bench.begin()
    for _ in range(STEPS_MAX):
        if not bits.more():
            break
        what = bits.octet()
        _PLAIN_STEPS[(what & 15) % len(_PLAIN_STEPS)](bench, None, bits, what)
    bench.end()


# --- seeds ----------------------------------------------------------------------------------------------------------


def _open_seeds() -> Iterable[bytes]:
    for number in range(len(POLICIES)):
        yield packed(number, 0, 20, 0x30, 3, 0x45, 3)
        yield packed(number, 0, 20, 8, 3, 3, 0, 0, 5, 9 | 32, 2, 0, 8, 3, 3)  # two key updates
        yield packed(number, 3, 0, 0, 0, 9, 9, 9 | 64, 70, 3, 0, 0, 0, 9)
        yield packed(number, 5, 0, 3, 5 | 16)  # the peer releases
        yield packed(number, 8, 2, 5 | 16)  # the own application releases
        yield packed(number, 8, 2, 5, 5 | 16)  # both do
        yield packed(number, 1, 0, b"\xa0\x01x", 1, 0, 3, 9, 1, 8, 1, 1, 1, 9)
        yield packed(number, 2, 64 | 2 | 16, 2, 64 | 4 | 32, 2, 8)
        for kind in range(7):
            yield packed(number, 4, kind, 0, 0)
            yield packed(number, 0, 3, 4, kind, kind % 5, 4 | 8 | 16, 2, b"x", 1, 0, 0, 9, 3)
        yield packed(number, 6, 2, b"\xa0\0", 6, 4, b"", 7 | 16, 2, b"\x01\0\x01\0")
        yield packed(number, 8, 7, 0, 9, 8, 0, 5, 8, 8, 8, 7)
        yield packed(number, 9 | 64 | 48, 2, 9 | 32, 100, 10, 0, 1, 10, 0)
        yield packed(number, 8, 5, 0, 9, 8, 6, 8, 9)


def _shake_seeds() -> Iterable[bytes]:
    for number in range(len(POLICIES)):
        yield packed(number, 0, 1, 0, 2, 5, 11, 0)
        yield packed(number | 192, 2, 5, 10, 0, 0, 2, 9)
        yield packed(number | 192, 2, 5, 4, 3, 10, 0, 0)
        for fields in range(64):
            yield packed(number | 64, 1, fields, 1, fields & 7, 0, fields * 4, 3, 1, 0, 1, 1)
        yield packed(number | 64, 4, 12 | 16, 1, 0)
        yield packed(number | 64, 4, 7, 1, 0, 4, 8, 4, 8, 4, 8)
        yield packed(number | 64, 3, b"\x03\0\0\x05\0", 5 | 32, 40, 0)
        for kind in range(7):
            yield packed(number | 64, 6, kind, 0, 0)


def _plain_seeds() -> Iterable[bytes]:
    every = [part for frame in range(len(_PLAIN_FRAMES)) for part in (16, frame)]
    for which in range(8):
        for at in range(0, len(every), 8):
            yield packed(which, *every[at : at + 8])
        yield packed(which, 2, 0, b"abc", 2, 2, 1 | 16, 1, b"\0\0")
    frames = [number for number, octets in enumerate(CONVERSATIONS) if octets[1] & 0xF0 in (0xE0, 0xD0)]
    requests = [number for number, octets in enumerate(CONVERSATIONS) if octets[3:4] in (b"\x0d", b"\x0e", b"\x09")]
    for first in frames:
        for then in requests:
            for which in (0, 1, 4):
                yield packed(which, 16, first, 16, then, 2, 0, b"abc", 2, 2)


def load() -> dict[str, Target]:
    """The targets of this module."""

    def of(run: Callable[[Role, bytes], None], role: Role) -> Callable[[bytes], None]:
        return lambda data: run(role, data)

    return {
        "server_open": Target(of(opened, Role.SERVER), 160, _open_seeds),
        "client_open": Target(of(opened, Role.CLIENT), 160, _open_seeds),
        "server_handshake": Target(of(beginning, Role.SERVER), 128, _shake_seeds),
        "client_handshake": Target(of(beginning, Role.CLIENT), 128, _shake_seeds),
        "plain": Target(plain, 256, _plain_seeds),
    }
