"""Every public function of every extension gives back what it borrows: on success and on every error.

Each case is one call, done often. Neither the number of blocks that Python has allocated nor the reference counts of
the arguments may then be higher by more than a few, where one lost reference per call would make hundreds. Blocks of
malloc and libcrypto are the business of ``make leaks``.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from guardkit import BY_NAME, START, T0, appl

from engine_pair import CLIENT, INITIATE, SERVER, ConnectionPair, authority, config
from fastsec._core import (
    components,
    crl,
    crypto,
    cursor,
    dh,
    evp,
    guard,
    opening,
    osidata,
    params,
    pk,
    sealing,
    tpkt,
    transfer,
)
from fastsec._core.components import Components
from fastsec._core.crl import RevokedEntries
from fastsec._core.crypto import Secret
from fastsec._core.cursor import Reader, Writer
from fastsec._core.osidata import OsiChannel, Tally
from fastsec._core.pk import Ephemeral, PrivateKey, PublicKey
from fastsec.errors import DecodeError
from fastsec.peers import Endpoint
from leaks.rounds import POLICIES

TIMES = 100
SLACK = 30  # free lists and caches that fill once
Case = tuple[Callable[..., Any], tuple[Any, ...]]

PEM = authority().issue_e2e("refcounts", CLIENT, key="p256").key_pem
KEY = PrivateKey.from_pem(PEM)
SPKI = KEY.public_spki()
SIGNED = KEY.sign("1.2.840.10045.4.3.2", b"text")
ECDSA = "1.2.840.10045.4.3.2"
EPHEMERAL = {group: Ephemeral.generate(group) for group in (14, 23, 28)}
PEER = {group: Ephemeral.generate(group).public for group in EPHEMERAL}
SECRET = Secret.from_bytes(bytes(range(96)))
WIPED = Secret.from_bytes(b"x")
WIPED.wipe()
DATA = appl(100)
SEALED = crypto.aes_gcm_seal(bytes(16), bytes(12), b"", b"x")
PUBLIC = KEY.public_key
REVOKED = bytes.fromhex("30143012020105170d3236313132303132303030305a")
ENTRIES = RevokedEntries(REVOKED, 2, len(REVOKED))


class Broken(Exception):
    """Raised by callbacks."""


def breaks(*_: object) -> None:
    raise Broken


class Source:
    """What Components writes."""

    a, b = b"\x05\x00", None


OTHER = components.OTHER
COLUMNS = (("a", "a", 0x05, False, OTHER, 0, None, lambda r: r.null(0x05), lambda w, v: w.null()),
           ("b", "b", 0x80, True, components.OCTETS, 8, None, breaks, breaks))  # fmt: skip
BAD = (("a", "a", 0x05, False, OTHER, 0, None, breaks, breaks),)


def on_reader(name: str, octets: bytes, *facts: Any, **more: Any) -> Case:
    def call(data: bytes) -> Any:
        reader = Reader(data, indefinite=True)
        return getattr(reader, name)(*facts, **more)

    return call, (octets,)


def after_next(name: str, octets: bytes, *facts: Any) -> Case:
    def call(data: bytes) -> Any:
        reader = Reader(data, indefinite=True)
        reader.next()
        return getattr(reader, name)(*facts)

    return call, (octets,)


def on_writer(name: str, *facts: Any) -> Case:
    def call(*facts: Any) -> Any:
        writer = Writer()
        getattr(writer, name)(*facts)
        return writer.getvalue()

    return call, facts


def written(*_: Any) -> bytes:
    writer = Writer()
    writer.begin(0x30)
    writer.octets(bytes(2000))
    writer.end()
    return writer.getvalue()


CURSOR: dict[str, Case] = {
    "Reader": (Reader, (b"\x05\x00",)),
    "Reader bad": (Reader, (b"\x05\x00", 3, 9)),
    "next": on_reader("next", b"\x30\x80\x05\x00\x00\x00"),
    "next bad": on_reader("next", b"\x30\x05\x00"),
    "expect bad": on_reader("expect", b"\x05\x00", 0x04),
    "expect at the end": on_reader("expect", b"", 0x04),
    "peek": on_reader("peek", b"\x05\x00"),
    "peek bad": on_reader("peek", b"\x05"),
    "more": on_reader("more", b"\x05"),
    "optional": on_reader("optional", b"\x05\x00", 0x05),
    "optional bad": on_reader("optional", b"\x05", 0x05),
    "set_aside": on_reader("set_aside", b"\x05\x00\x04\x02\x00\x00\x05\x00", 0x04),
    "set_aside bad": on_reader("set_aside", b"\x05\x00\x04\x02", 0x04),
    "value": after_next("value", b"\x04\x03abc"),
    "covered": after_next("covered", b"\x30\x80\x05\x00\x00\x00"),
    "raw": after_next("raw", b"\x04\x03abc"),
    "enter": after_next("enter", b"\x30\x02\x05\x00"),
    "enter bad": after_next("enter", b"\x04\x02\x05\x00"),
    "integer": on_reader("integer", b"\x02\x08\x01\x02\x03\x04\x05\x06\x07\x08"),
    "integer bad": on_reader("integer", b"\x02\x00"),
    "octets": on_reader("octets", b"\x04\x03abc"),
    "octets bad": on_reader("octets", b"\x04\x03abc", 0x04, 1),
    "oid": on_reader("oid", b"\x06\x03\x2a\x03\x04"),
    "oid bad": on_reader("oid", b"\x06\x02\x2a\x80"),
    "boolean": on_reader("boolean", b"\x01\x01\xff"),
    "boolean bad": on_reader("boolean", b"\x01\x00"),
    "null": on_reader("null", b"\x05\x00"),
    "null bad": on_reader("null", b"\x05\x01\x00"),
    "bits": on_reader("bits", b"\x03\x02\x01\x02"),
    "bits bad": on_reader("bits", b"\x03\x01\x09"),
    "named_bits": on_reader("named_bits", b"\x03\x0c\x00" + b"\xff" * 11),
    "named_bits bad": on_reader("named_bits", b"\x03\x30\x00" + b"\xff" * 47),
    "utf8": on_reader("utf8", b"\x0c\x03abc"),
    "utf8 bad": on_reader("utf8", b"\x0c\x01\xff"),
    "text": on_reader("text", b"\x16\x03abc", 0x16),
    "text bad": on_reader("text", b"\x16\x01\xff", 0x16),
    "finish": on_reader("finish", b""),
    "finish bad": on_reader("finish", b"\x05\x00"),
    "Writer": (written, ()),
    "writer end bad": on_writer("end"),
    "writer begin": on_writer("begin", 0x30),
    "writer primitive": on_writer("primitive", 0x04, b"abc"),
    "writer primitive bad": on_writer("primitive", 0, b"abc"),
    "writer integer": on_writer("integer", 1 << 40),
    "writer integer bad": on_writer("integer", 1 << 80),
    "writer octets": on_writer("octets", b"abc"),
    "writer octets bad": on_writer("octets", "abc"),
    "writer oid": on_writer("oid", "1.2.3"),
    "writer oid bad": on_writer("oid", "1.x"),
    "writer boolean": on_writer("boolean", True),
    "writer null": on_writer("null"),
    "writer named_bits": on_writer("named_bits", 1 << 70),
    "writer named_bits bad": on_writer("named_bits", -1),
    "writer utf8": on_writer("utf8", "\u00e9"),
    "writer utf8 bad": on_writer("utf8", "\ud800"),
    "writer raw": on_writer("raw", b"\x05\x00"),
    "writer raw bad": on_writer("raw", None),
    "decode_oid": (cursor.decode_oid, (b"\x2a\x03",)),
    "decode_oid bad": (cursor.decode_oid, (b"\x80",)),
    "encode_oid": (cursor.encode_oid, ("1.2.3",)),
    "encode_oid bad": (cursor.encode_oid, ("1.2.\u0662",)),
    "tlv": (cursor.tlv, (0x30, b"abc")),
    "tlv bad": (cursor.tlv, (0, b"abc")),
    "Components.read": (lambda d: Components(COLUMNS, {}).read(Reader(d), "x"), (b"\x05\x00\x80\x01a",)),
    "Components.read bad": (lambda d: Components(COLUMNS, {}).read(Reader(d), "x"), (b"\x05\x00\x80\x09a",)),
    "Components.read breaks": (lambda d: Components(BAD, {}).read(Reader(d), "x"), (b"\x05\x00",)),
    "Components.write": (lambda s: Components(COLUMNS, {}).write(Writer(), s), (Source(),)),
    "Components.write breaks": (lambda s: Components(BAD, {}).write(Writer(), s), (Source(),)),
    "Components.write bad": (lambda s: Components(COLUMNS, {}).write(Writer(), s), (object(),)),
    "Components bad": (Components, (((1, 2),), {})),
}


def wiped(secret_octets: bytes) -> None:
    secret = Secret.from_bytes(secret_octets)
    secret.wipe()
    len(secret)
    repr(secret)
    secret.reveal()


CRYPTO: dict[str, Case] = {
    "Secret": (Secret.from_bytes, (b"k" * 32,)),
    "Secret bad": (Secret.from_bytes, (b"",)),
    "reveal": (lambda: SECRET.reveal(), ()),
    "wiped": (wiped, (b"k" * 32,)),
    "Secret ==": (lambda: SECRET == SECRET, ()),
    "Secret reduce": (lambda: SECRET.__reduce__(), ()),
    "sha256": (crypto.sha256, (b"abc",)),
    "sha256 bad": (crypto.sha256, (None,)),
    "hmac": (crypto.hmac_sha256, (b"k" * 100, b"abc")),
    "hkdf": (crypto.hkdf_sha256, (SECRET, b"s", b"i", 100)),
    "hkdf bad": (crypto.hkdf_sha256, (SECRET, b"s", b"i", 0)),
    "hkdf wiped": (crypto.hkdf_sha256, (WIPED, b"s", b"i", 10)),
    "gcm": (crypto.aes_gcm_seal, (bytes(16), bytes(12), b"aad", b"data")),
    "gcm bad": (crypto.aes_gcm_seal, (bytes(15), bytes(12), b"aad", b"data")),
    "gcm bad nonce": (crypto.aes_gcm_seal, (bytes(16), bytes(11), b"aad", b"data")),
    "gcm open bad": (crypto.aes_gcm_open, (bytes(16), bytes(12), b"aad", bytes(30))),
    "gcm open": (crypto.aes_gcm_open, (bytes(16), bytes(12), b"", SEALED)),
    "cbc": (crypto.aes_cbc, (bytes(16), bytes(16), bytes(64), True)),
    "cbc bad": (crypto.aes_cbc, (bytes(16), bytes(16), bytes(63), True)),
    "equal": (crypto.equal, (b"abc", b"abd")),
    "random": (crypto.random_bytes, (100,)),
    "random bad": (crypto.random_bytes, (-1,)),
    "generate": (Ephemeral.generate, (23,)),
    "generate bad": (Ephemeral.generate, (15,)),
    "Ephemeral bad": (Ephemeral, ()),
    "Ephemeral reduce": (EPHEMERAL[23].__reduce__, ()),
    "derive": (EPHEMERAL[23].derive, (PEER[23],)),
    "derive bad": (EPHEMERAL[23].derive, (bytes(65),)),
    "derive short": (EPHEMERAL[14].derive, (b"",)),
    "derive small": (EPHEMERAL[14].derive, (bytes(255) + b"\x01",)),
    "check_public": (pk.check_public, (28, PEER[28])),
    "check_public bad": (pk.check_public, (28, b"\x04" + bytes(64))),
    "from_spki": (PublicKey.from_spki, (SPKI,)),
    "from_spki bad": (PublicKey.from_spki, (SPKI[:-1] + b"\0",)),
    "from_spki garbage": (PublicKey.from_spki, (b"\x30\x00",)),
    "PublicKey bad": (PublicKey, ()),
    "PublicKey == and hash": (lambda: (PUBLIC == PUBLIC, PUBLIC == 5, hash(PUBLIC)), ()),
    "verify": (KEY.public_key.verify, (ECDSA, b"text", SIGNED)),
    "verify bad": (KEY.public_key.verify, (ECDSA, b"text", b"\x30\x00")),
    "verify other": (KEY.public_key.verify, ("1.2.3", b"text", SIGNED)),
    "from_pem": (PrivateKey.from_pem, (PEM,)),
    "from_pem bad": (PrivateKey.from_pem, (PEM[:60],)),
    "from_der bad": (PrivateKey.from_der, (b"\x30\x00",)),
    "PrivateKey bad": (PrivateKey, ()),
    "sign": (KEY.sign, (ECDSA, b"text")),
    "sign bad": (KEY.sign, ("1.2.3", b"text")),
    "public_spki": (KEY.public_spki, ()),
    "check_der": (pk.check_der, (SPKI,)),
    "check_der bad": (pk.check_der, (b"\x30\x81\x00",)),
    "read_extension bad": (lambda d: pk.read_extension(Reader(d)), (b"\x30\x00",)),
    "read_extension": (lambda d: pk.read_extension(Reader(d)), (bytes.fromhex("3009060355041d04020500"),)),
    "read_time": (lambda d: pk.read_time(Reader(d)), (b"\x17\x0d261120120000Z",)),
    "read_time bad": (lambda d: pk.read_time(Reader(d)), (b"\x17\x0d2611201200009",)),
    "check_list": (crl.check_list, (SPKI,)),
    "check_list bad": (crl.check_list, (b"\x30\x81\x00",)),
    "RevokedEntries": (RevokedEntries, (REVOKED, 2, len(REVOKED))),
    "RevokedEntries bad": (RevokedEntries, (REVOKED, 2, len(REVOKED) - 1)),
    "RevokedEntries find": (ENTRIES.find, (b"\x05",)),
    "RevokedEntries find none": (ENTRIES.find, (b"\x06",)),
    "RevokedEntries serials": (ENTRIES.serials, ()),
    "Tally": (lambda: (OsiChannel(1000, Tally()).tally.pdus_in, OsiChannel(1000).tally), ()),
    "scan_transfer bad": (transfer.scan_transfer, (b"\x30\x03\x30\x01\x00",)),
    "tpkt": (tpkt.tpkt, (b"abc" * 5,)),
    "tpkt bad": (tpkt.tpkt, (bytes(70_000),)),
    "dt": (tpkt.dt, (bytes(1000), 128)),
    "dt bad": (tpkt.dt, (bytes(1000), 5)),
}  # fmt: skip
ALL = CURSOR | CRYPTO


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """The garbage collector looks at what these tests make, not at all of pytest each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def growth(call: Callable[[], None]) -> int:
    """By how many blocks TIMES calls grow what Python has allocated, the least of some tries."""
    least = sys.maxsize
    for _ in range(4):
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(TIMES):
            call()
        gc.collect()
        least = min(least, sys.getallocatedblocks() - before)
        if least <= 0:
            break
    return least


def settled(call: Callable[..., Any], facts: tuple[Any, ...] = ()) -> Callable[[], None]:
    def once() -> None:
        try:
            call(*facts)
        except Exception:  # what it raises is the business of other tests
            return

    return once


def hold(call: Callable[..., Any], facts: tuple[Any, ...]) -> None:
    once = settled(call, facts)
    once()
    before = [sys.getrefcount(fact) for fact in facts]
    more = growth(once)
    after = [sys.getrefcount(fact) for fact in facts]
    assert more < SLACK
    # Numbers and short texts are shared with the rest of the interpreter.
    assert all(b - a < SLACK for a, b in zip(before, after, strict=True)), (before, after)


@pytest.mark.parametrize("name", ALL)
def test_functions(name: str) -> None:
    hold(*ALL[name])


def test_every_public_function_has_a_case() -> None:
    """By name: a new one is put above, or into the tests below."""
    below = {
        "GuardParams",
        "SealGuard",
        "OpenGuard",
        "OsiChannel",
        "Opened",
        "Outgoing",
        "Window",
        "HmacKey",
        "GcmKey",
        "CbcKey",
    }
    text = (
        " ".join(ALL)
        + " Reader Writer hmac_sha256 hkdf_sha256 aes_gcm_seal aes_gcm_open aes_cbc random_bytes Components"
    )
    for module in (
        components,
        crl,
        crypto,
        cursor,
        dh,
        evp,
        guard,
        opening,
        osidata,
        params,
        pk,
        sealing,
        tpkt,
        transfer,
    ):
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__ or not callable(value):
                continue
            if isinstance(value, type) and issubclass(value, Exception):
                continue
            assert name in below or name in text or name in {"Ephemeral", "Secret", "PublicKey", "PrivateKey"}, name


@pytest.mark.parametrize("kind", BY_NAME.values(), ids=str)
def test_guards(kind: Any) -> None:
    pair = kind.seal_guard(), kind.open_guard()
    seal, opener = pair
    clock = iter(range(T0, T0 + 10_000_000))
    bad = bytearray(seal.seal(DATA, next(clock)))
    opener.open(bytes(bad), T0)
    bad[-1] ^= 1

    def right() -> None:
        opener.open(seal.seal(DATA, next(clock)), T0 + 1000)

    def extra() -> None:
        seal.rekey = (23, PEER[23])
        seal.req_rekey = True
        seal.changed_key = True
        pdu = seal.seal(DATA, next(clock))
        transfer.scan_transfer(pdu)
        opened = opener.open(pdu, T0 + 1000)
        assert (opened.rekey, opened.req_rekey, opened.changed_key) == ((23, PEER[23]), True, True)
        seal.req_rekey = False

    hold(right, ())
    hold(extra, ())
    hold(opener.open, (bytes(bad), T0))
    hold(opener.open, (bytes(bad)[:-1], T0))
    hold(opener.open, (bytes(bad), T0 + 10_000_000))
    hold(seal.seal, (b"\x30\x00", T0))
    hold(seal.seal, (DATA, -5))
    hold(lambda: (seal.last_time, opener.last_time, seal.due, seal.count), ())
    hold(type(kind.params), (kind.mode, "1:2", kind.icv_algorithm, kind.icv_len, kind.aes, kind.mac))
    hold(type(kind.params), (kind.mode, "1:2", b"\x30\x00", kind.icv_len, kind.aes, 7))
    for maker, previous in ((sealing.SealGuard, seal), (opening.OpenGuard, opener)):
        for secret, start in ((SECRET, START), (SECRET, "today"), (SECRET, None), (WIPED, START)):
            hold(lambda m=maker, s=secret, t=start: m(kind.params, s, kind.ik, kind.ek, start_time=t), ())
        hold(lambda m=maker, p=previous: m(kind.params, SECRET, kind.ik, kind.ek, previous=p), ())
    for one in pair:
        one.wipe()
    hold(seal.seal, (DATA, T0))
    hold(opener.open, (bytes(bad), T0))


def test_channel() -> None:
    a, b = OsiChannel(1 << 20), OsiChannel(1 << 20)
    seal, opener = BY_NAME["gcm128-16"].seal_guard(), BY_NAME["gcm128-16"].open_guard()
    a.arm_tx(seal, 3, 512)
    b.arm_rx(opener, 3)
    clock = iter(range(T0, T0 + 10_000_000))
    big = appl(5000)

    def burst() -> None:
        octets = b"".join(a.seal_batch([DATA, big, DATA], next(clock)))
        assert len(b.feed(octets[:700], T0) + b.feed(octets[700:], T0)) == 3
        assert b.feed(a.seal(DATA, next(clock)), T0) == [DATA]

    def wrong() -> None:
        octets = bytearray(a.seal(DATA, T0))
        octets[-1] ^= 1
        channel = OsiChannel(1000)
        channel.arm_rx(BY_NAME["gcm128-16"].open_guard(), 3)
        assert channel.feed(bytes(octets), T0) == []
        assert channel.fault
        assert channel.next()

    def stopped() -> None:
        channel = OsiChannel(100)
        channel.feed(b"\x03\x00\x00\x0b\x06\xe0\x00\x00\x00\x01\x00" * 2 + b"\x03\x00\x00", T0)
        assert channel.next()
        assert channel.buffered > 0

    def dead() -> None:
        channel = OsiChannel(100)
        channel.arm_rx(None, -1)
        with pytest.raises(DecodeError):
            channel.feed(b"\x04", T0)
        channel.next()

    for call in (burst, wrong, stopped, dead, lambda: a.frame(big), lambda: OsiChannel(0)):
        hold(call, ())
    hold(a.seal_batch, ([DATA, "text"], T0))
    hold(a.seal_batch, ([b"\x30\x00"], T0))
    hold(a.seal, (b"\x30\x00", T0))
    hold(a.arm_tx, (seal, 70_000, 512))
    hold(a.arm_tx, (seal, 3, 5))
    hold(b.arm_rx, (opener, 70_000))
    hold(b.arm_rx, (opener, 3))
    b.disarm_rx()
    a.disarm_tx()
    hold(a.seal, (DATA, T0))


# --- no cycle keeps a key alive -------------------------------------------------------------------------------------
def test_the_compiled_objects_go_at_once() -> None:
    """Without the garbage collector: their keys go with the last reference."""
    gc.collect()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        for _ in range(200):
            for kind in BY_NAME.values():
                seal, opener, channel = kind.seal_guard(), kind.open_guard(), OsiChannel(1000)
                channel.arm_tx(seal, 3, 512)
                channel.arm_rx(opener, 3)
                channel.feed(b"\x03\x00\x00\x07\x02", T0)
                del seal, opener, channel
        assert sys.getallocatedblocks() - before < 200
    finally:
        gc.enable()


@pytest.mark.parametrize("mode", POLICIES)
@pytest.mark.parametrize("end", ["released", "aborted", "lost", "dropped"])
def test_an_association_goes_after_its_end(mode: str, end: str) -> None:
    pair = ConnectionPair(config(CLIENT, policy=POLICIES[mode]), config(SERVER, policy=POLICIES[mode])).open().confirm()
    pair.client.update_keys()
    pair.move()
    pair.confirm()
    if end == "released":
        pair.client.release()
    elif end == "aborted":
        pair.client.abort(None)
    elif end == "lost":
        pair.client.connection_lost()
        pair.server.connection_lost()
    pair.move()
    endpoints = pair.endpoints
    watched = [weakref.ref(side.association) for side in (pair.client, pair.server)]
    del pair
    gc.collect()
    assert [one() for one in watched] == [None, None]
    watched = [weakref.ref(endpoint) for endpoint in endpoints]
    del endpoints
    gc.collect()
    assert [one() for one in watched] == [None, None]


def test_a_refused_handshake_goes() -> None:
    pair = ConnectionPair(accept=False)
    pair.client.start(INITIATE)
    pair.move()
    watched: list[weakref.ref[Any]] = [weakref.ref(pair.client.association), weakref.ref(pair.endpoints[0])]
    assert isinstance(pair.endpoints[0], Endpoint)
    del pair
    gc.collect()
    assert [one() for one in watched] == [None, None]
