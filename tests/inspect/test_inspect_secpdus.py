"""What inspect says of SecPDUs: tokens, certificates, signatures, diagnostics, and what our checks would say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import inspect_writer as writer
import pytest
from inspect_world import World, anomalies, damages, pdus, records, secpdus, whole_life, world

from engine_pair import CLIENT, INITIATE, READ, SERVER, ConnectionPair, config, credential
from fastsec import profile
from fastsec.association import Send
from fastsec.config import Policy
from fastsec.inspect import text
from fastsec.inspect.secpdu import candidates
from fastsec.inspect.words import printable
from fastsec.negotiation import V1
from fastsec.secpdu.fields import Carrier
from fastsec.secpdu.model import AeaOffer, DhPublic, algorithm_id
from forge import UNKNOWN_SIGNATURE, forge


def capture(made: World) -> bytes:
    return writer.pcap(writer.segments(made.frames))


def test_a_handshake_in_full() -> None:
    made = whole_life(Policy(groups=(23, 28)))
    found = pdus(records(capture(made)))
    request = found[2]
    assert request["layers"]["acse"] == {
        "apdu": "AARQ",
        "context_name": profile.OID_E2E_MMS_AC,
        "context": "e2eMmsAC",
        "calling": {"ap_title": CLIENT.ap_title, "ae_qualifier": CLIENT.ae_qualifier},
        "called": {"ap_title": SERVER.ap_title, "ae_qualifier": SERVER.ae_qualifier},
        "user_information_context": 5,
    }
    assert [one["name"] for one in request["layers"]["presentation"]["contexts"]] == ["ACSE", "MMS", "e2eSecurityAS"]
    assert request["layers"]["session"]["spdu"] == "CONNECT"
    assert request["layers"]["cotp"]["tpdu"] == "DT"
    pdu = request["secpdu"]
    assert pdu["kind"] == "HandshakeReq"
    assert pdu["pp"] == "IEC 61850-8-1"
    token = pdu["token1"]
    assert token["time"] == "2026-11-18T11:06:40.000Z"
    assert token["dhKey"] == [
        {"group": 23, "name": "secp256r1", "octets": 65},
        {"group": 28, "name": "brainpoolP256r1", "octets": 65},
    ]
    assert token["sigAlg"] == {"oid": profile.ECDSA_SHA256, "name": "ecdsa-with-SHA256"}
    assert token["encr_mode"]["aea"][0] == {"oid": profile.AES128_GCM, "name": "aes128-GCM", "icv_octets": 16}
    assert token["version"] == ["v1"]
    assert token["confParams"] == ["applProtected"]
    assert token["attCert"] is False
    certificate = pdu["certificate"]
    assert certificate["subject"] == CLIENT.oid
    assert certificate["key"] == "secp256r1 256"
    assert certificate["key_usage"] == ["digitalSignature", "keyAgreement"]
    assert certificate["not_before"] < "2026-11-18" < certificate["not_after"]
    assert len(certificate["serial"]) >= 16
    assert pdu["signature"]["verifies"] is True
    assert pdu["applData"] == {"mms": "initiate-Request", "octets": len(INITIATE)}


@pytest.mark.parametrize(
    ("change", "check", "event"),
    [
        ({"sig_alg": UNKNOWN_SIGNATURE}, "signature-algorithm", "IEC62351-4:1.1"),
        ({"algo": algorithm_id(profile.SHA256_RSA)}, "signature-mismatch", "IEC62351-4:1.2"),
        ({"signature": lambda good: good[:-1] + bytes((good[-1] ^ 1,))}, "signature", "IEC62351-4:1.3"),
        ({"pk_cert": credential(SERVER).certificate}, "signature", "IEC62351-4:1.3"),
        ({"version": 0}, "version", "IEC62351-4:1.9"),
        ({"time": "20261118120000.000Z"}, "time", "IEC62351-4:1.10"),
        ({"time": "20400101000000.000Z"}, "certificate", "IEC62351-4:1.6"),
        ({"asso_id": "1:2"}, "protocol-error", "IEC62351-4:1.5"),
        ({"hmac": algorithm_id(profile.SHA256_RSA)}, "hmac", "IEC62351-4:1.13"),
    ],
)
def test_faults_of_a_request_have_their_events(change: dict[str, Any], check: str, event: str) -> None:
    made = world()
    made.change = lambda who, sent: (
        Send(sent.carrier, forge(sent.carrier, sent.pdu or b"", credential(CLIENT), **change))
        if sent.carrier is Carrier.ASSOCIATE_REQ
        else sent
    )
    made.pair.client.start(INITIATE)
    made.pair.move()
    found = pdus(records(capture(made)))[2]
    told = {one["check"]: one["event"] for one in found["anomalies"]}
    assert told.get(check) == event, found["anomalies"]
    # The engine says the same, unless it found another fault first.
    assert made.pair.server.events[0] in {one["mnemonic"] for one in found["anomalies"]}


def test_a_certificate_of_another_address() -> None:
    made = world()
    made.pair.client.start(INITIATE)
    (who, carrier, pdu), *_ = made.sent
    third = ConnectionPair(config(SERVER), config(CLIENT))
    swapped = World(third, [])
    swapped.put(who, carrier, pdu)
    (record,) = [one for one in pdus(records(capture(swapped))) if "secpdu" in one]
    assert [one["check"] for one in record["anomalies"]] == ["address"]
    assert record["anomalies"][0]["severity"] == "alarm"


@pytest.mark.parametrize(
    ("change", "check", "event"),
    [
        ({"dh_key": (DhPublic(28, bytes(65)),)}, "group", "IEC62351-4:2.11"),
        ({"asso_id": "7"}, "protocol-error", "IEC62351-4:2.4"),
        ({"version": V1 | 2}, "version", "IEC62351-4:2.8"),
        ({"encr_mode": AeaOffer((algorithm_id(profile.AES256_GCM, 14),))}, "ae-algorithm", "IEC62351-4:2.13"),
        ({"pp": "IEC 61850-8-2"}, "pp", "IEC62351-4:2.4"),
    ],
)
def test_faults_of_an_acceptance_have_their_events(change: dict[str, Any], check: str, event: str) -> None:
    made = world()
    made.change = lambda who, sent: (
        Send(sent.carrier, forge(sent.carrier, sent.pdu or b"", credential(SERVER), **change), sent.disposition)
        if sent.carrier is Carrier.ASSOCIATE_RSP
        else sent
    )
    made.pair.client.start(INITIATE)
    made.pair.move()
    found = next(one for one in pdus(records(capture(made))) if one.get("secpdu", {}).get("kind") == "HandshakeAcc")
    told = {one["check"]: one["event"] for one in found["anomalies"]}
    assert told.get(check) == event, found["anomalies"]
    assert made.pair.client.events[0] in {one["mnemonic"] for one in found["anomalies"]}


def order_of(numbers: list[int], policy: Policy | None = None) -> tuple[World, list[list[str]]]:
    """Transfers of the client in another order: what inspect says of each."""
    made = world(policy)
    made.pair.open().confirm()
    for _ in range(4):
        made.pair.client.send(READ)
    made.pair.move()
    handshake, mine = made.sent[:2], [entry for entry in made.sent[2:] if entry[0] == "client"]
    again = World(made.pair, made.keys)
    for entry in [*handshake, *(mine[number] for number in numbers)]:
        again.put(*entry)
    found = [one for one in pdus(records(capture(again), made.key_log)) if "token2" in one.get("secpdu", {})]
    return again, [[one["check"] for one in record["anomalies"]] for record in found]


@pytest.mark.parametrize("policy", [Policy(), Policy(encryption="forbidden")], ids=["ae", "hmac"])
def test_order(policy: Policy) -> None:
    assert order_of([0, 1, 2, 3, 4], policy)[1] == [[], [], [], [], []]
    assert order_of([0, 1, 1, 2], policy)[1] == [[], [], ["replay"], []]
    assert order_of([0, 2, 1], policy)[1] == [[], ["sequence"], ["replay"]]
    assert order_of([1], policy)[1] == [["sequence"]]
    # Out of order or not, all are opened.
    again, _ = order_of([0, 3, 1, 2], policy)
    made = secpdus(records(capture(again), again.key_log))
    assert all(pdu["opened"]["icv"] == "verified" for pdu in made if "token2" in pdu)


def test_a_release_signed_at_a_time_seen_before() -> None:
    made = whole_life()
    release = next(entry for entry in made.sent if entry[1] is Carrier.RELEASE_REQ)
    early = forge(Carrier.RELEASE_REQ, release[2], credential(CLIENT), time="20261118110640.000Z")
    again = World(made.pair, [])
    for entry in made.sent[:2]:
        again.put(*entry)
    again.put("client", Carrier.RELEASE_REQ, early)
    checks = [check for _, check in anomalies(records(capture(again)))]
    assert checks == ["replay"]


def test_diagnostics_by_name() -> None:
    pair = ConnectionPair(config(CLIENT, policy=Policy(encryption="forbidden")), config(SERVER))
    made = World(pair, [])
    pair.client.start(INITIATE)
    pair.move()
    reject = secpdus(records(capture(made)))[-1]
    assert reject["kind"] == "HandshakeSecReject"
    assert reject["diag"] == {"number": 7, "name": "encryption-required"}
    assert reject["token3"]["assoID"] is not None


# --- without a network ------------------------------------------------------------------------------------------------


def test_der_one_and_several() -> None:
    made = whole_life()
    octets = b"".join(pdu for _, _, pdu in made.sent)
    found = records(octets, made.key_log)
    assert [pdu["kind"] for pdu in secpdus(found)] == [pdu["kind"] for pdu in secpdus(records(capture(made)))]
    assert not damages(found)
    assert not anomalies(found)
    assert all(pdu["opened"]["icv"] == "verified" for pdu in secpdus(found) if "token2" in pdu)
    for _, _, pdu in made.sent:
        (one,) = secpdus(records(pdu))
        assert one["octets"] == len(pdu)
    release = secpdus(found)[-1]
    assert (release["kind"], release["or"]) == ("ReleaseRsp", "ReleaseReq")
    assert pdus(found)[1]["octet"] == len(made.sent[0][2])


def test_der_that_breaks_off() -> None:
    pdu = whole_life().sent[0][2]
    found = records(pdu + pdu[:-1])
    assert len(secpdus(found)) == 1
    assert damages(found) == [f"octet {len(pdu)}: no whole SecPDU here: TLV is longer than what surrounds it (octet 0)"]
    found = records(b"\x30\x03\x02\x01\x05")
    assert damages(found) == ["octet 0: not a SecPDU: tag 30"]


def test_a_stream_of_tpkts() -> None:
    made = whole_life()
    octets = b"".join(octets for _, octets, _ in made.frames)
    found = records(octets, made.key_log)
    assert [pdu["kind"] for pdu in secpdus(found)] == [pdu["kind"] for pdu in secpdus(records(capture(made)))]
    assert all(pdu["opened"]["icv"] == "verified" for pdu in secpdus(found) if "token2" in pdu)
    assert not damages(found)
    assert not anomalies(found)
    assert damages(records(octets[:-1]))
    assert damages(records(octets[:100] + b"xyz" + octets[100:]))


def hexdump(octets: bytes, shape: str) -> str:
    rows = [octets[at : at + 16] for at in range(0, len(octets), 16)]

    def shown(row: bytes) -> str:
        return "".join(chr(octet) if 32 <= octet < 127 else "." for octet in row)

    match shape:
        case "plain":
            return octets.hex()
        case "spaced":
            return octets.hex(" ").upper()
        case "colons":
            return octets.hex(":")
        case "c":
            return ", ".join(f"0x{octet:02x}" for octet in octets)
        case "escapes":
            return "".join(f"\\x{octet:02x}" for octet in octets)
        case "broken lines":
            digits = octets.hex()
            return "# a comment\n" + "\n".join(digits[at : at + 31] for at in range(0, len(digits), 31)) + "\n"
        case "hexdump -C":
            lines = [
                f"{16 * number:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{shown(row)}|"
                for number, row in enumerate(rows)
            ]
            return "\n".join([*lines, f"{len(octets):08x}"])
        case "xxd":
            return "\n".join(
                f"{16 * number:08x}: {row.hex(' ', -2):<39}  {shown(row)}" for number, row in enumerate(rows)
            )
        case "od":
            return "\n".join(f"{16 * number:06x} {row.hex(' ')}" for number, row in enumerate(rows))
        case _:
            return "\n".join(
                f"{16 * number:04x}   {row.hex(' '):<47}   {shown(row)}" for number, row in enumerate(rows)
            )


SHAPES = ["plain", "spaced", "colons", "c", "escapes", "broken lines", "hexdump -C", "xxd", "od", "wireshark"]


@pytest.mark.parametrize("shape", SHAPES)
def test_hex(shape: str) -> None:
    made = whole_life()
    # Characters beside the octets that look like hex digits: pp and names hold them.
    for octets in (made.sent[0][2], made.sent[2][2], b"".join(octets for _, octets, _ in made.frames), capture(made)):
        found = records(hexdump(octets, shape).encode(), made.key_log)
        assert found[-1]["counts"]["format hex"] == 1
        assert secpdus(found) == secpdus(records(octets, made.key_log))
        assert not damages(found)


@pytest.mark.parametrize("row", [b"abcdefabcdef1234", b"ab cd ef 12 34 5", b"               0", b"0000000000000000"])
def test_characters_that_look_like_octets(row: bytes) -> None:
    from fastsec.inspect.hexdump import read_hex

    octets = row * 3 + row[:5]
    for shape in SHAPES[6:]:
        assert read_hex(hexdump(octets, shape).encode()) == octets, shape


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("30 03 02 01 0", "line 1: an odd number of hex digits"),
        ("30 03\n02 xx", "line 2: something that is not hex digits"),
        ("30 03\n\xe4", "line 2: characters that are not ASCII"),
        ("0000  30 03 02\n0010  01", "line 1: 3 octets where the offsets say 16"),
        ("0000  30 03\n0003  01", "line 1: 2 octets where the offsets say 3"),
        ("0000  30 03\n0002  01 02\n0003  01\n0001 01", "line 4: offset 1 where"),
        ("0000  30 03\nzz", "line 2: a line without an offset"),
    ],
)
def test_damaged_hex(content: str, words: str) -> None:
    found = records(content.encode("latin-1"), form="hex")
    assert any(words in damage for damage in damages(found)), damages(found)


@pytest.mark.parametrize("form", ["pcap", "hex", "der", "tpkt"])
def test_a_forced_format(form: str) -> None:
    made = whole_life()
    inputs = {
        "pcap": capture(made),
        "hex": made.sent[0][2].hex().encode(),
        "der": made.sent[0][2],
        "tpkt": made.frames[2][1],
    }
    for name, octets in inputs.items():
        found = records(octets, form=form)
        assert bool(damages(found)) == (name != form), (name, form)


# --- which SecPDU it is -----------------------------------------------------------------------------------------------


def test_tags_tell_carriers() -> None:
    made = whole_life()
    for _, carrier, pdu in made.sent:
        assert carrier in candidates(pdu)
        assert len(candidates(pdu)) == (2 if carrier in (Carrier.RELEASE_REQ, Carrier.RELEASE_RSP) else 1)
    for octets in (b"", b"\x30", b"\x30\x00", b"\x31\x02\x30\x00", b"\xa3\x02\x30\x00", b"\xa1\x02\x04\x00"):
        assert candidates(octets) == []


# --- output -----------------------------------------------------------------------------------------------------------


def dirty(value: Any) -> bool:
    if isinstance(value, dict):
        return any(dirty(key) or dirty(one) for key, one in value.items())
    if isinstance(value, list):
        return any(map(dirty, value))
    return isinstance(value, str) and not value.isprintable()


EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\u202egnp.exe\u200b\x9b31m"


def test_nothing_of_a_peer_reaches_the_terminal() -> None:
    made = world()
    made.change = lambda who, sent: (
        Send(sent.carrier, forge(sent.carrier, sent.pdu or b"", credential(CLIENT), pp=EVIL))
        if sent.carrier is Carrier.ASSOCIATE_REQ
        else sent
    )
    made.pair.client.start(INITIATE)
    made.pair.move()
    found = records(capture(made))
    assert not any(dirty(record) for record in found)
    for record in found:
        for line in text.lines(record):
            assert line.isprintable(), line
    shown = "\n".join(line for record in found for line in text.lines(record))
    assert "\\x1b]0;owned" in shown
    assert "\\u202e" in shown


def test_printable() -> None:
    assert printable("Münster") == "Münster"
    assert printable("a\x00b\n\\") == "a\\x00b\\n\\\\"
    assert printable("x" * 300) == "x" * 256 + "..."


def every(check: Callable[[dict[str, Any]], None], made: World) -> None:
    for record in records(capture(made), made.key_log, full=True):
        check(record)


def test_text_says_what_json_says() -> None:
    """Every value of some weight stands in the text too."""
    made = whole_life(Policy(ae="forbidden"))

    def check(record: dict[str, Any]) -> None:
        shown = "\n".join(text.lines(record))
        pdu = record.get("secpdu", {})
        token = pdu.get("token1") or pdu.get("token2") or pdu.get("token3") or {}
        wanted = [pdu.get("kind", ""), str(token.get("assoID", "")), token.get("time", ""), pdu.get("pp", "")]
        wanted += [pdu.get("certificate", {}).get("serial", ""), token.get("iv", "")]
        wanted += [token.get("auth", {}).get("icv", ""), pdu.get("applData", {}).get("hex", "")]
        wanted += ["verifies"] if "signature" in pdu else []
        wanted += ["ICV verified"] if "opened" in pdu else []
        assert all(str(word) in shown for word in wanted), (wanted, shown)

    every(check, made)


def test_json_is_one_object_a_line() -> None:
    made = whole_life()
    every(lambda record: json.loads(json.dumps(record)), made)


def test_the_clock_of_the_capture_counts() -> None:
    made = world()
    made.pair.client.start(INITIATE)
    late = [(request, octets, at_ms + 700_000) for request, octets, at_ms in made.frames]
    found = records(writer.pcap(writer.segments(late)))
    assert ("HandshakeReq", "time") in anomalies(found)
