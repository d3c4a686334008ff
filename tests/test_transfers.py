"""Wrong transfers, and damage to anything on the wire: the event, the diagnostic, nothing delivered.

``WRONG`` holds, for a clear and an encrypting mode, one wrong PDU per check of groups 10 and 11. The flips at the end
damage every octet of every PDU of a whole association, one bit at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import event_record
from engine_pair import ANSWER, CLIENT, INITIATE, READ, SERVER, ConnectionPair, Side, config
from fastsec import profile
from fastsec.association import Ended, Established, Send
from fastsec.config import Policy
from fastsec.errors import DecodeError, IntegrityError, PeerError
from fastsec.faults import CLEAR_TRANSFER, ENCR_TRANSFER
from fastsec.instant import Instant
from fastsec.profile import DtDiag
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.state import State
from forge import flip_last, replies
from test_handshake import MODES

HMAC = {"encryption": "forbidden", "icv_algorithms": ((profile.HMAC_SHA256, 32),)}
GMAC = {"encryption": "forbidden", "icv_algorithms": ((profile.AES128_GCM, 16),)}
CBC = {"ae": "forbidden", "icv_algorithms": ((profile.HMAC_SHA256, 32),)}
CBC_GMAC = {"ae": "forbidden", "icv_algorithms": ((profile.AES128_GCM, 16),)}
AE: dict[str, Any] = {}


def make(fields: dict[str, Any]) -> ConnectionPair:
    policy = Policy(**fields)
    return ConnectionPair(config(CLIENT, policy=policy), config(SERVER, policy=policy)).open().confirm()


# --- taking genuine PDUs apart, to put them together wrongly ---


def tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    return bytes((tag,)) + (bytes((size,)) if size < 128 else bytes((0x82, size >> 8, size & 255))) + content


def size_of(octets: bytes) -> int:
    first = octets[1]
    if first < 128:
        return 2 + first
    count = first & 0x7F
    return 2 + count + int.from_bytes(octets[2 : 2 + count], "big")


def split(pdu: bytes) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """(components of token2, the rest of tbp, what follows tbp)."""
    tbp, *rest = children(pdu)
    token, *data = children(tbp)
    return children(token), data, rest


def children(octets: bytes) -> list[bytes]:
    header = size_of(octets) - int_len(octets)
    content, found = octets[header:], []
    while content:
        size = size_of(content)
        found.append(content[:size])
        content = content[size:]
    return found


def int_len(octets: bytes) -> int:
    first = octets[1]
    return first if first < 128 else int.from_bytes(octets[2 : 2 + (first & 0x7F)], "big")


def join(token: list[bytes], data: list[bytes], rest: list[bytes]) -> bytes:
    return tlv(0x30, tlv(0x30, tlv(0x30, *token), *data), *rest)


def without(tag: int) -> Callable[[bytes], bytes]:
    def change(pdu: bytes) -> bytes:
        token, data, rest = split(pdu)
        rest = [tlv(0x30, *(part for part in children(item) if part[0] != tag)) for item in rest]
        return join([part for part in token if part[0] != tag], data, rest)

    return change


def other_algorithm(pdu: bytes) -> bytes:
    token, data, rest = split(pdu)
    *before, _, icv = children(rest[0])
    wrong = tlv(0x30, bytes.fromhex("06082a864886f70d0208"))  # hmacWithSHA224
    return join(token, data, [tlv(0x30, *before, wrong, icv)])


def shorter_icv(pdu: bytes) -> bytes:
    token, data, rest = split(pdu)
    *before, icv = children(rest[0])
    return join(token, data, [tlv(0x30, *before, tlv(0x04, icv[2:-1]))])


def followed(pdu: bytes) -> bytes:
    token, data, rest = split(pdu)
    return join(token, [*data, b"\x85\x01\x00"], rest)


def with_auth(pdu: bytes) -> bytes:
    token, data, rest = split(pdu)
    auth = tlv(0x30, tlv(0x30, bytes.fromhex("06082a864886f70d0209")), tlv(0x04, bytes(32)))
    return join(token, data, [*rest, auth])


def other_number(pdu: bytes) -> bytes:
    token, data, rest = split(pdu)
    return join([tlv(0x0C, b"999:998"), *token[1:]], data, rest)


def as_other_kind(pdu: bytes) -> bytes:
    token, data, rest = split(pdu)
    if data[0][0] == 0x04:
        return with_auth(join(token, [b"\xa0\x00"], []))
    return join(token, [tlv(0x04, bytes(32))], rest)


# mode, change of a genuine PDU, check
WRONG: dict[str, tuple[dict[str, Any], Callable[[bytes], bytes], str]] = {
    "clear: cut": (HMAC, lambda pdu: pdu[:-1], "protocol-error"),
    "clear: number": (HMAC, other_number, "asso-id"),
    "clear: encrypted": (HMAC, as_other_kind, "wrong-kind"),
    "clear: algorithm": (HMAC, other_algorithm, "icv-algorithm"),
    "clear: gmac algorithm": (GMAC, other_algorithm, "icv-algorithm"),
    "clear: nonce": (GMAC, without(0x80), "nonce-missing"),
    "clear: icv": (HMAC, flip_last, "icv"),
    "clear: gmac": (GMAC, flip_last, "icv"),
    "clear: short icv": (HMAC, shorter_icv, "icv"),
    "encr: cut": (AE, lambda pdu: pdu[:-1], "protocol-error"),
    "encr: number": (AE, other_number, "asso-id"),
    "encr: clear": (AE, as_other_kind, "wrong-kind"),
    "encr: algorithm": (CBC, other_algorithm, "icv-algorithm"),
    "encr: gmac nonce": (CBC_GMAC, lambda pdu: without_nonce(pdu), "nonce-missing"),
    "encr: ae iv": (AE, without(0x80), "ae-iv-missing"),
    "encr: cbc iv": (CBC, lambda pdu: without_iv(pdu), "iv-missing"),
    "encr: tag": (AE, flip_last, "icv"),
    "encr: icv": (CBC, flip_last, "icv"),
    "encr: something follows": (AE, followed, "protocol-error"),
    "encr: authenticator with ae": (AE, with_auth, "protocol-error"),
}


def without_iv(pdu: bytes) -> bytes:
    token, data, rest = split(pdu)
    return join([part for part in token if part[0] != 0x80], data, rest)


def without_nonce(pdu: bytes) -> bytes:
    token, data, rest = split(pdu)
    return join(token, data, [tlv(0x30, *(part for part in children(rest[0]) if part[0] != 0x80))])


def expect(pair: ConnectionPair, check: str, *, clear: bool) -> None:
    table, group = (CLEAR_TRANSFER, 10) if clear else (ENCR_TRANSFER, 11)
    number, diag = table[check]
    from test_handshake import mnemonic

    assert pair.server.events == [mnemonic(group, number)]
    abort = replies(pair, "server")[-1]
    assert abort.kind is SecPduKind.DT_SEC_ABORT
    assert abort.diag == diag
    assert isinstance(pair.server.error, PeerError)
    assert pair.server.error.check == check
    assert pair.client.error.code == diag
    assert pair.server.received == [READ]  # what was there before


def event_of(check: str, *, clear: bool) -> str:
    """The event of a failed check of a transfer."""
    return f"IEC62351-4:10.{CLEAR_TRANSFER[check][0]}" if clear else f"IEC62351-4:11.{ENCR_TRANSFER[check][0]}"


def is_clear(case: str) -> bool:
    """Whether the receiver has a ClearTransfer to judge."""
    return case.startswith("encr") == (WRONG[case][2] == "wrong-kind")


@pytest.mark.parametrize(
    "case", event_record.marked(WRONG, lambda case: [event_of(WRONG[case][2], clear=is_clear(case))])
)
def test_wrong_transfer(case: str) -> None:
    fields, change, check = WRONG[case]
    pair = make(fields)
    pair.on_wire = lambda who, sent: (
        Send(sent.carrier, change(sent.pdu)) if who == "client" and sent.carrier is Carrier.DATA else sent
    )
    pair.client.send(READ)
    pair.move()
    expect(pair, check, clear=is_clear(case))


@pytest.mark.parametrize(
    "fields",
    event_record.marked([HMAC, AE, CBC], lambda fields: [event_of("replay", clear=fields is HMAC)]),
    ids=["clear", "ae", "cbc"],
)
def test_the_pdu_just_sent_again(fields: dict[str, Any]) -> None:
    pair = make(fields)
    pair.deliver(pair.server, next(sent for who, sent in pair.wire if who == "client" and sent.carrier is Carrier.DATA))
    pair.move()
    expect(pair, "replay", clear=fields is HMAC)


@pytest.mark.parametrize(
    "fields",
    event_record.marked([HMAC, AE], lambda fields: [event_of("sequence", clear=fields is HMAC)]),
    ids=["clear", "ae"],
)
def test_two_pdus_swapped(fields: dict[str, Any]) -> None:
    pair = make(fields)
    pair.client.send(READ)
    pair.client.send(READ)
    pair.link.rotate(1)
    pair.move()
    expect(pair, "sequence", clear=fields is HMAC)


@pytest.mark.parametrize(
    "fields",
    event_record.marked([HMAC, AE], lambda fields: [event_of("time", clear=fields is HMAC)]),
    ids=["clear", "ae"],
)
def test_time_going_back_and_time_out_of_the_window(fields: dict[str, Any]) -> None:
    pair = make(fields)
    pair.client.send(READ)
    held = pair.link.pop()
    pair.now = Instant(pair.now.utc_ms + 5, pair.now.mono_ms + 5)
    pair.client.send(READ)
    pair.link.append(held)
    pair.deliver(*pair.link.popleft())
    assert pair.server.received.pop() == READ
    pair.move()
    expect(pair, "time", clear=fields is HMAC)
    pair = make(fields)
    pair.client.send(READ)
    pair.now = Instant(pair.now.utc_ms + 600_001, pair.now.mono_ms + 1)
    pair.move()
    expect(pair, "time", clear=fields is HMAC)


def test_every_check_of_a_transfer_has_a_wrong_peer() -> None:
    elsewhere = {"internal", "time", "replay", "sequence", "unexpected-rekey", "unexpected-changed-key"}
    for prefix, table in (("clear", CLEAR_TRANSFER), ("encr", ENCR_TRANSFER)):
        assert {check for case, (*_, check) in WRONG.items() if case.startswith(prefix)} == set(table) - elsewhere
    diags = {diag for table in (CLEAR_TRANSFER, ENCR_TRANSFER) for _, diag in table.values()}
    assert diags | {DtDiag.UNEXPECTED_VERSION} == {None, *DtDiag}


def test_a_fault_of_the_fast_path_ends_the_same_way() -> None:
    pair = make(AE)
    pair.server.transfer_fault(IntegrityError("the tag does not verify", check="icv"))
    pair.move()
    assert pair.server.events == ["ENCR_BAD_ICV"]
    assert pair.client.events == ["ALARM_DTSEC_ABT"]
    pair = make(AE)
    pair.server.transfer_fault(DecodeError("clear", check="wrong-kind"))
    assert pair.server.events == ["ENCR_WAS_SEL_TRF"]
    pair.server.transfer_fault(DecodeError("again"))
    assert len(pair.server.events) == 1


def test_data_of_other_protocols_and_strange_sizes() -> None:
    pair = make(AE)
    for data in (b"\xc0\x00", b"\xc0\x82\x40\x00" + bytes(0x4000), b"\xbf\x4d\x01\x00"):
        pair.client.send(data)
        pair.move()
        assert pair.server.received[-1] == data


def test_both_sides_may_send_at_once_before_confirmation() -> None:
    pair = ConnectionPair().open()
    for _ in range(5):
        pair.client.send(READ)
        pair.server.send(ANSWER)
    pair.move()
    assert pair.server.received == [READ] * 5
    assert pair.client.received == [ANSWER] * 5


# --- damage on the wire -----------------------------------------------------------------------------------------------


def scenario(pair: ConnectionPair) -> None:
    """A whole short association."""
    pair.client.start(INITIATE)
    pair.move()
    for side, data in ((pair.client, READ), (pair.server, ANSWER)):
        if side.association.state is State.OPEN:
            side.send(data)
            pair.move()
    if pair.client.association.state is State.OPEN:
        pair.client.update_keys()
        pair.move()
    if pair.client.association.state is State.OPEN:
        pair.client.release()
        pair.move()


@pytest.mark.parametrize("mode", ["ae128", "hmac", "cbc-gmac"])
def test_every_octet_of_every_pdu_damaged(mode: str) -> None:
    """One bit per octet flipped: no exception, nothing altered is delivered, no side believes in an orderly end that
    the other does not share, and every damage is noticed by an event."""
    policy = MODES[mode]
    server_policy = replace(policy, encryption="required" if policy.encryption != "forbidden" else "forbidden")
    good = ConnectionPair(config(CLIENT, policy=policy), config(SERVER, policy=server_policy))
    scenario(good)
    assert good.client.error is None
    sizes = [len(sent.pdu or b"") for _, sent in good.wire]
    aes_nonce = b"\x04\x0c" + bytes(12)
    for index, size in enumerate(sizes):
        step = max(1, size // 60) if index < 2 else 1
        for at in range(0, size, step):
            pair = ConnectionPair(config(CLIENT, policy=policy), config(SERVER, policy=server_policy))
            count = iter(range(1000))
            done: list[int] = []

            def damage(
                who: str, sent: Send, *, index: int = index, at: int = at, count: Any = count, done: Any = done
            ) -> Send:
                if next(count) != index or sent.pdu is None or at >= len(sent.pdu):
                    return sent  # numbers and signatures are not of the same size every time
                octets = bytearray(sent.pdu)
                octets[at] ^= 1 << (at % 8)
                begin = sent.pdu.find(aes_nonce) + 1 if sent.carrier is Carrier.DATA and "gmac" in mode else at + 1
                # aes-nonce of a GMAC algorithm is ignored by the specification; 8C and twelve zeros is a length of 0.
                if not begin <= at < begin + 13:
                    done.append(at)
                return Send(sent.carrier, bytes(octets), sent.disposition)

            pair.on_wire = damage
            scenario(pair)
            assert set(pair.server.received) <= {READ}
            assert set(pair.client.received) <= {ANSWER}
            if done:
                assert pair.client.events or pair.server.events, (index, at)
            elif not pair.client.events and not pair.server.events:
                assert pair.client.ended
                assert pair.client.error is None


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.6, 0.9, 0.99])
def test_truncated_pdus(cut: float) -> None:
    good = ConnectionPair()
    scenario(good)
    for index in range(len(good.wire)):
        pair = ConnectionPair()
        count = iter(range(1000))

        def damage(who: str, sent: Send, *, index: int = index, count: Any = count) -> Send:
            if next(count) != index or sent.pdu is None:
                return sent
            return Send(sent.carrier, sent.pdu[: int(len(sent.pdu) * cut)], sent.disposition)

        pair.on_wire = damage
        scenario(pair)
        assert pair.client.events or pair.server.events
        assert pair.client.ended
        assert pair.server.ended


def test_random_octets_in_every_carrier_and_state() -> None:
    import random

    rng = random.Random(4711)
    for round_ in range(120):
        pair = ConnectionPair(accept=None if round_ % 3 == 0 else True)
        pair.client.start(INITIATE)
        if round_ % 4:
            pair.move()
        side: Side = (pair.client, pair.server)[round_ % 2]
        for carrier in Carrier:
            if not side.ended:
                octets = bytes([rng.choice((0x30, 0xA0, 0xA1, 0xA2, 0xA3))]) + rng.randbytes(rng.randrange(60))
                pair.deliver(side, Send(carrier, octets))
        pair.move()
        assert sum(isinstance(output, Ended) for output in side.outputs) <= 1


def test_established_comes_once() -> None:
    pair = ConnectionPair().open()
    assert len(pair.client.seen(Established)) == len(pair.server.seen(Established)) == 1
