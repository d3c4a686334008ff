"""One round of all that an engine and its compiled core do and suffer, for the search of leaks; no sockets."""

from __future__ import annotations

from collections.abc import Callable

from engine_pair import ANSWER, CLIENT, INITIATE, READ, SERVER, ConnectionPair, config, credential
from fastsec._core import crypto
from fastsec._core.cursor import Reader, Writer
from fastsec._core.guard import OpenGuard
from fastsec._core.osidata import OsiChannel
from fastsec._core.pk import Ephemeral, PrivateKey, PublicKey, check_der
from fastsec._core.transfer import scan_transfer
from fastsec.association import Send
from fastsec.config import Policy
from fastsec.errors import FastsecError, LocalError
from fastsec.profile import AES128_CBC, AES128_GCM, AES256_CBC, AES256_GCM, HMAC_ICV_LEN, HMAC_SHA256
from fastsec.secpdu.fields import Carrier
from forge import flip_last, forge, on_request, on_response

HMAC = ((HMAC_SHA256, HMAC_ICV_LEN),)
GMAC = ((AES256_GCM, 12),)
POLICIES = {
    "ae": Policy(groups=(23, 28), ae_algorithms=((AES128_GCM, 16),)),
    "ae256": Policy(groups=(14,), ae_algorithms=((AES256_GCM, 12),)),
    "cbc-hmac": Policy(ae="forbidden", encr_algorithms=(AES128_CBC,), icv_algorithms=HMAC),
    "cbc-gmac": Policy(ae="forbidden", encr_algorithms=(AES256_CBC,), icv_algorithms=GMAC),
    "hmac": Policy(encryption="forbidden", icv_algorithms=HMAC),
    "gmac": Policy(encryption="forbidden", icv_algorithms=GMAC),
}


def pair_of(name: str = "ae") -> ConnectionPair:
    """A fresh client and server that agree on one mode."""
    policy = POLICIES[name]
    return ConnectionPair(config(CLIENT, policy=policy), config(SERVER, policy=policy))


def whole_life(name: str) -> None:
    """Handshake, data, two key updates, release."""
    pair = pair_of(name).open().confirm()
    for _ in range(2):
        pair.client.update_keys()
        pair.move()
        pair.confirm()
        pair.elapse(1000)
    pair.client.send(READ)
    pair.server.send(ANSWER)
    pair.move()
    pair.client.release()
    pair.move()
    assert pair.client.ended
    assert pair.server.ended


def aborted() -> None:
    pair = pair_of().open().confirm()
    pair.client.abort(None)
    pair.move()


def lost() -> None:
    pair = pair_of().open()
    pair.client.connection_lost()
    pair.server.connection_lost()


def refused() -> None:
    pair = pair_of()
    pair.accept = False
    pair.client.start(INITIATE)
    pair.move()


def wrong_request() -> None:
    pair = pair_of()
    on_request(pair, flip_last)
    pair.client.start(INITIATE)
    pair.move()


def wrong_response() -> None:
    pair = pair_of()
    on_response(pair, lambda pdu: forge(Carrier.ASSOCIATE_RSP, pdu, credential(SERVER), asso_id="1"))
    pair.client.start(INITIATE)
    pair.move()


def damaged_data() -> None:
    pair = pair_of("cbc-hmac").open().confirm()
    pair.client.send(READ)
    to, sent = pair.link.popleft()
    pair.deliver(to, Send(sent.carrier, flip_last(sent.pdu)))
    pair.move()


def replayed_data() -> None:
    pair = pair_of("gmac").open().confirm()
    pair.client.send(READ)
    to, sent = pair.link.popleft()
    pair.deliver(to, sent)
    pair.deliver(to, sent)
    pair.move()


def garbage_for_engines() -> None:
    for octets in (b"", b"\x30", b"\x30\x80" * 20, bytes(range(256)), b"\xa0\x84\xff\xff\xff\xff"):
        for carrier in Carrier:
            pair = pair_of()
            pair.deliver(pair.server, Send(carrier, octets))
            pair.move()


def refuse(call: Callable[..., object], *facts: object, **more: object) -> None:
    """It must raise one of our errors, or the TypeError of a wrong type."""
    try:
        call(*facts, **more)
    except (FastsecError, crypto.LibraryError, TypeError, OverflowError):
        return
    raise AssertionError(f"{call} took {facts}")


def keys_and_values() -> None:
    """Private and public keys, key agreement, key derivation: right and wrong."""
    pem = credential_pem()
    key = PrivateKey.from_pem(pem)
    key.public_key.verify("1.2.840.10045.4.3.2", b"text", key.sign("1.2.840.10045.4.3.2", b"text"))
    refuse(key.public_key.verify, "1.2.840.10045.4.3.2", b"text", b"\x30\x00")
    refuse(key.sign, "1.2.3", b"text")
    refuse(PrivateKey.from_pem, pem[:100])
    refuse(PrivateKey.from_der, b"\x30\x00")
    refuse(PublicKey.from_spki, key.public_spki()[:-1] + b"\x00")
    refuse(PublicKey.from_spki, b"\x30\x00")
    for group in (14, 23, 28):
        ours, theirs = Ephemeral.generate(group), Ephemeral.generate(group)
        for _ in range(2):  # the second time from the private value alone
            z = ours.derive(theirs.public)
        okm = crypto.hkdf_sha256(z, b"salt", b"", 96)
        okm.wipe()
        refuse(okm.reveal)
        refuse(ours.derive, bytes(len(theirs.public)))
        refuse(ours.derive, theirs.public[:-1])
        ours.wipe()
        refuse(ours.derive, theirs.public)
    refuse(Ephemeral.generate, 15)
    refuse(check_der, b"\x30\x81\x01\x00")


_pem: list[bytes] = []


def credential_pem() -> bytes:
    if not _pem:
        from engine_pair import authority

        _pem.append(authority().issue_e2e("leaks", CLIENT, key="p256").key_pem)
    return _pem[0]


def codec() -> None:
    writer = Writer()
    writer.begin(0x30)
    for size in (0, 100, 1000, 70_000):
        writer.octets(bytes(size))
    refuse(writer.getvalue)
    writer.end()
    reader = Reader(writer.getvalue())
    reader.expect(0x30)
    inner = reader.enter()
    while inner.more():
        inner.octets()
    refuse(inner.next)
    refuse(scan_transfer, b"\x30\x03\x30\x01\x00")
    refuse(crypto.aes_gcm_open, bytes(16), bytes(12), b"", bytes(40))
    assert crypto.aes_gcm_open(bytes(16), bytes(12), b"", crypto.aes_gcm_seal(bytes(16), bytes(12), b"", b"x")) == b"x"
    refuse(crypto.aes_cbc, bytes(16), bytes(3), b"", True)
    refuse(crypto.Secret.from_bytes, b"")


def channels() -> None:
    """Frames cut and joined, a TSDU in parts, garbage, a stream that breaks while octets wait."""
    a, b = OsiChannel(1 << 20), OsiChannel(1 << 20)
    a.arm_tx(None, 3, 128)
    b.arm_rx(None, 3)
    data = b"\xa0\x82\x27\x10" + bytes(10_000)
    octets = b"".join(a.seal_batch([data] * 3, 0))
    for at in range(0, len(octets), 777):
        b.feed(octets[at : at + 777], 0)
    for broken in (b"\x04", b"\x03\x00\x00\x05", octets[:300] + b"\x09", octets[:60]):
        channel = OsiChannel(1000)
        channel.arm_rx(None, 3)
        try:
            while channel.feed(broken, 0) or channel.next():
                pass
            channel.feed(broken, 0)
        except FastsecError:
            refuse(channel.next)
    refuse(a.seal_batch, [data, "no bytes"], 0)
    a.disarm_tx()
    refuse(a.seal, data, 0)


def guards() -> None:
    """Wiped, of wrong facts, fed with garbage."""
    from guardkit import BY_NAME, START, T0, appl

    for kind in BY_NAME.values():
        seal, opener = kind.seal_guard(), kind.open_guard()
        pdu = seal.seal(appl(200), T0)
        refuse(opener.open, flip_last(pdu), T0)
        refuse(opener.open, pdu[:-1], T0)
        refuse(opener.open, pdu, T0 + 10_000_000)
        opener.open(pdu, T0)
        refuse(opener.open, pdu, T0)
        refuse(seal.seal, b"\x30\x00", T0)
        seal.rekey = (23, bytes(65))
        seal.req_rekey = True
        opener.open(seal.seal(appl(20), T0), T0)
        seal.rekey = (23, 5)  # type: ignore[assignment]
        refuse(seal.seal, appl(20), T0)
        refuse(OpenGuard, kind.params, crypto.Secret.from_bytes(bytes(8)), kind.ik, kind.ek, start_time=START)
        refuse(OpenGuard, kind.params, crypto.Secret.from_bytes(bytes(96)), kind.ik, kind.ek, start_time="today")
        kind.seal_guard(previous=seal)
        opener.wipe()
        opener.wipe()
        refuse(opener.open, pdu, T0)
        seal.wipe()
        try:
            seal.seal(appl(20), T0)
        except LocalError:
            continue
        raise AssertionError("sealed after wipe")


ROUND: tuple[Callable[[], None], ...] = (
    *(lambda name=name: whole_life(name) for name in POLICIES),
    aborted, lost, refused, wrong_request, wrong_response, damaged_data, replayed_data, garbage_for_engines,
    keys_and_values, codec, channels, guards,
)  # fmt: skip


def one_round() -> None:
    for part in ROUND:
        part()
