"""The dissector for Wireshark says the same as inspect, in tshark, on what our stack sends.

``FASTSEC_TSHARK`` names another tshark than the system's, to run these tests with another version.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import inspect_writer as writer
import pytest
from inspect_tshark import WARNING, column, columns, fields, tshark
from inspect_world import POLICIES, World, pdus, records, secpdus, whole_life, world

from engine_pair import INITIATE, READ
from envs.osi.support import CAPTURES
from fastsec.association import Send
from fastsec.config import Policy
from fastsec.secpdu.fields import Carrier
from forge import flip_last
from interop.test_dissect import POLICIES as REAL_POLICIES
from interop.test_dissect import by_link, converse

Secpdu = dict[str, Any]


def names(algorithms: list[dict[str, Any]]) -> list[str]:
    return [f"{one['name']} (ICV {one['icv_octets']})" if "icv_octets" in one else one["name"] for one in algorithms]


def raw_time(text: str) -> str:
    return text.translate({ord(c): None for c in "-:T"})


def of_token(token: str, name: str) -> Callable[[Secpdu], list[str]]:
    def values(pdu: Secpdu) -> list[str]:
        value = pdu.get(token, {}).get(name)
        if value is None:
            return []
        if isinstance(value, bool):
            return [str(value)]
        return [raw_time(value) if name == "time" else str(value)]

    return values


def auth(name: str) -> Callable[[Secpdu], list[str]]:
    def values(pdu: Secpdu) -> list[str]:
        about = pdu.get("token2", {}).get("auth", {})
        return [] if name not in about else names([about[name]]) if name == "algorithm" else [about[name]]

    return values


def encr_mode(name: str) -> Callable[[Secpdu], list[str]]:
    return lambda pdu: names(pdu.get("token1", {}).get("encr_mode", {}).get(name, []))


# Field of the dissector -> the same out of a record of inspect.
SAME: dict[str, Callable[[Secpdu], list[str]]] = {
    "fastsec.kind": lambda pdu: [pdu["kind"]],
    "fastsec.handshake.pp": lambda pdu: [pdu["pp"]] if "pp" in pdu else [],
    "fastsec.handshake.assoid": of_token("token1", "assoID"),
    "fastsec.handshake.time": of_token("token1", "time"),
    "fastsec.handshake.sigalg": lambda pdu: names([pdu["token1"]["sigAlg"]]) if "token1" in pdu else [],
    "fastsec.handshake.hmac": lambda pdu: names([pdu["token1"]["hmac"]]) if "token1" in pdu else [],
    "fastsec.handshake.dhkey.group": lambda pdu: [str(one["group"]) for one in pdu.get("token1", {}).get("dhKey", [])],
    "fastsec.handshake.aea": encr_mode("aea"),
    "fastsec.handshake.encr": encr_mode("encr"),
    "fastsec.handshake.icv": encr_mode("icv"),
    "fastsec.handshake.confparams.applprotected": lambda pdu: (
        [str("applProtected" in pdu["token1"]["confParams"])] if "token1" in pdu else []
    ),
    "fastsec.control.assoid": of_token("token3", "assoID"),
    "fastsec.control.time": of_token("token3", "time"),
    "fastsec.control.diag": lambda pdu: [str(pdu["diag"]["number"])] if pdu.get("diag") else [],
    "fastsec.control.diag.name": lambda pdu: [pdu["diag"]["name"]] if pdu.get("diag") else [],
    "fastsec.signature.algorithm": lambda pdu: names([pdu["signature"]["algorithm"]]) if "signature" in pdu else [],
    "fastsec.transfer.assoid": of_token("token2", "assoID"),
    "fastsec.transfer.time": of_token("token2", "time"),
    "fastsec.transfer.seq": of_token("token2", "seq"),
    "fastsec.transfer.iv": of_token("token2", "iv"),
    "fastsec.transfer.reqrekey": of_token("token2", "reqRekey"),
    "fastsec.transfer.changedkey": of_token("token2", "changedKey"),
    "fastsec.transfer.rekey.group": lambda pdu: (
        [str(pdu["token2"]["rekey"]["group"])] if "rekey" in pdu.get("token2", {}) else []
    ),
    "fastsec.transfer.encrypted": lambda pdu: [str(pdu["kind"] == "EncrTransfer")] if "token2" in pdu else [],
    "fastsec.auth.algorithm": auth("algorithm"),
    "fastsec.auth.nonce": auth("nonce"),
    "fastsec.auth.icv": auth("icv"),
    "fastsec.appldata.length": lambda pdu: [
        str(octets)
        for octets in (pdu.get("token2", {}).get("applData_octets"), pdu.get("applData_octets"))
        if octets is not None
    ],
}


def boolean(value: str) -> str:
    return {"1": "True", "0": "False"}.get(value, value)


def compare(capture: bytes, made: World | None = None) -> list[Secpdu]:
    """Every field of every SecPDU, and nothing wrong; what inspect says."""
    wanted = secpdus(records(capture))
    assert wanted
    if made is not None:
        assert len(wanted) == len(made.sent)
    # Values per frame, because tshark speaks of frames.
    extra = ["_ws.malformed", "_ws.expert.severity", "_ws.expert.message", "fastsec.malformed", "frame.protocols"]
    seen: dict[str, list[str]] = {name: [] for name in SAME}
    for frame in fields(capture, [*SAME, *extra]):
        assert not frame["_ws.malformed"], frame
        assert not frame["fastsec.malformed"], frame
        assert "_ws.lua" not in frame["frame.protocols"][0]
        severities = [int(value, 0) for value in frame["_ws.expert.severity"]]
        messages = [
            text
            for severity, text in zip(severities, frame["_ws.expert.message"], strict=False)
            if severity >= WARNING and "retransmission" not in text and "out-of-order" not in text
        ]
        assert not messages, messages
        for name in SAME:
            seen[name] += [boolean(value) if "keyed" not in name else value for value in frame[name]]
    for name, get in SAME.items():
        expected = [value for pdu in wanted for value in get(pdu)]
        found = seen[name]
        if name.endswith((".group", ".seq", ".length", ".diag", ".assoid")):
            # What `boolean` did to numbers it must do to both.
            expected = [boolean(value) for value in expected]
        assert found == expected, name
    return wanted


@cache
def life(name: str = "ae") -> World:
    return whole_life(POLICIES[name])


@pytest.mark.parametrize("mode", POLICIES)
def test_all_fields_are_the_same(mode: str) -> None:
    made = life(mode)
    wanted = compare(writer.pcap(writer.segments(made.frames)), made)
    assert any("rekey" in pdu.get("token2", {}) for pdu in wanted)
    assert any("changedKey" in pdu.get("token2", {}) for pdu in wanted)
    assert any("reqRekey" in pdu.get("token2", {}) for pdu in wanted)


@pytest.mark.parametrize("mode", ["ae", "cbc-gmac"])
@pytest.mark.parametrize("size", [1, 2, 13])
def test_tiny_segments(mode: str, size: int) -> None:
    made = life(mode)
    compare(writer.pcap(writer.segments(made.frames, size=size)), made)


@pytest.mark.parametrize("key", ["rsa2048", "brainpool"])
def test_other_keys_and_groups(key: str) -> None:
    made = whole_life(Policy(groups=(28, 14, 23)), key=key)
    compare(writer.pcap(writer.segments(made.frames, size=700)), made)


@pytest.mark.parametrize("size", [1, 100])
def test_tpdus_in_pieces(size: int) -> None:
    made = whole_life(tpdu_size=128)
    compare(writer.pcap(writer.segments(made.frames, size=size)), made)


@pytest.mark.parametrize("link", ["ethernet", "sll"])
def test_other_links_and_several_pdus_in_a_segment(link: str) -> None:
    made = life("hmac")
    joined: list[tuple[bool, bytes, int]] = []
    for request, octets, at_ms in made.frames:
        if joined and joined[-1][0] == request and len(joined) > 4:
            joined[-1] = (request, joined[-1][1] + octets, at_ms)
        else:
            joined.append((request, octets, at_ms))
    assert len(joined) < len(made.frames)
    compare(writer.pcap(writer.segments(joined), link=link), made)


def test_any_port() -> None:
    """A connection that begins with a COTP connection request is found wherever it is."""
    made = life()
    frames = [writer.ipv4(packet, (50_000, 3782)) for packet in writer.segments(made.frames)]
    capture = writer.pcap_of(frames, at_ms=made.frames[0][2])
    assert len(column(capture, "fastsec.kind")) == len(made.sent)
    assert not column(capture, "fastsec.kind", "-o", "fastsec.any_port:FALSE")


def test_a_context_named_by_the_user() -> None:
    """Where the beginning is missing, the context in the preferences of PRES stands for it."""
    made = life()
    middle = [frame for frame in made.frames if len(frame[1]) < 300][2:]
    capture = writer.pcap(writer.segments(middle, handshake=False))
    assert not column(capture, "fastsec.kind")
    context = 'uat:pres_context_list:"5","1.0.62351.4.1.1.1"'
    assert column(capture, "fastsec.transfer.seq", "-o", context)


# --- rejects, aborts, and what is wrong -------------------------------------------------------------------------------


def ended(how: str) -> World:
    """A conversation with one of the PDUs that end an association."""
    if how == "security reject":
        from engine_pair import CLIENT, SERVER, ConnectionPair, config

        pair = ConnectionPair(
            config(CLIENT, policy=Policy(encryption="forbidden")), config(SERVER, policy=Policy(encryption="required"))
        )
        made = World(pair, [])
        pair.client.start(INITIATE)
        pair.move()
        return made
    if how == "application reject":
        made = world(accept=False)
        made.pair.client.start(INITIATE)
        made.pair.move()
        return made
    made = world()
    if how == "handshake abort":

        def tampered(who: str, sent: Send) -> Send:
            if sent.carrier is Carrier.ASSOCIATE_RSP and sent.pdu is not None:
                return Send(sent.carrier, flip_last(sent.pdu), sent.disposition)
            return sent

        made.change = tampered
        made.pair.client.start(INITIATE)
        made.pair.move()
        return made
    made.pair.open().confirm()
    if how == "application abort":
        made.pair.client.abort(None)
        made.pair.move()
        return made
    made.change = lambda who, sent: (
        Send(sent.carrier, flip_last(sent.pdu or b"")) if sent.carrier is Carrier.DATA else sent
    )
    made.pair.client.send(READ)
    made.pair.move()
    return made


ENDS = {
    "security reject": "HandshakeSecReject",
    "application reject": "ApplicationReject",
    "handshake abort": "HandshakeSecAbort",
    "application abort": "ApplAbort",
    "data abort": "DtSecAbort",
}


@pytest.mark.parametrize("how", ENDS)
def test_ends(how: str) -> None:
    made = ended(how)
    capture = writer.pcap(writer.segments(made.frames))
    wanted = secpdus(records(capture))
    assert wanted[-1]["kind"] == ENDS[how]
    same = ("fastsec.kind", "fastsec.control.diag.name", "fastsec.control.assoid", "fastsec.signature.algorithm")
    found = columns(capture, *same, "_ws.malformed", "fastsec.x.alarm", "fastsec.x.diagnostic")
    for name in same:
        assert found[name] == [value for pdu in wanted for value in SAME[name](pdu)], name
    assert not found["_ws.malformed"]
    assert bool(found["fastsec.x.alarm"]) == (how in ("handshake abort", "data abort"))
    assert bool(found["fastsec.x.diagnostic"]) == (how == "security reject")


def test_order_is_judged_as_inspect_judges_it() -> None:
    """A transfer twice, one missing, one late: the same PDUs are marked."""
    made = world(Policy(encryption="forbidden"))
    made.pair.open().confirm()
    for _ in range(8):
        made.pair.client.send(READ)
    made.pair.move()
    again = World(made.pair, [])
    order = [0, 1, 2, 3, 4, 4, 6, 5, 7, 8, 9, 3]
    for number in order:
        again.put(*made.sent[number])
    capture = writer.pcap(writer.segments(again.frames))
    found = records(capture)
    checks = [
        [one["check"] for one in record["anomalies"] if one["check"] in ("sequence", "replay")]
        for record in pdus(found)
        if "token2" in record.get("secpdu", {})
    ]
    assert sum(map(len, checks)) >= 4
    marked = [
        ["sequence"] * len(frame["fastsec.x.sequence"]) + ["replay"] * len(frame["fastsec.x.replay"])
        for frame in fields(capture, ["fastsec.x.sequence", "fastsec.x.replay", "fastsec.transfer.seq"])
        if frame["fastsec.transfer.seq"]
    ]
    assert marked == checks


def test_a_wrong_clock_is_noted() -> None:
    made = life()
    late = [(request, octets, at_ms + 3_600_000) for request, octets, at_ms in made.frames]
    capture = writer.pcap(writer.segments(late))
    assert len(column(capture, "fastsec.x.time.skew")) == len(made.sent)
    assert not column(writer.pcap(writer.segments(made.frames)), "fastsec.x.time.skew")


# --- nothing that is not ours, and nothing that breaks it -------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.pcap*")), ids=lambda path: path.name)
def test_plain_mms_is_left_alone(path: Path) -> None:
    capture = path.read_bytes()
    assert tshark(capture, "-V") == tshark(capture, "-V", script=None)
    assert "fastsec" not in tshark(capture, "-T", "fields", "-e", "frame.protocols")


def mutated(octets: bytes, choice: random.Random) -> bytes:
    """One or a few octets changed, cut off, doubled or inserted."""
    out = bytearray(octets)
    for _ in range(choice.choice((1, 1, 2, 8))):
        at = choice.randrange(len(out)) if choice.random() < 0.5 else choice.randrange(min(len(out), 60))
        match choice.randrange(5):
            case 0:
                out[at] = choice.choice((0, 1, 0x7F, 0x80, 0x84, 0xFF, 0x30, 0xA0, 0x1F, 0xBF))
            case 1:
                out[at] ^= 1 << choice.randrange(8)
            case 2:
                del out[at : at + choice.choice((1, 2, 20))]
            case 3:
                out[at:at] = bytes(choice.choice((1, 2, 20)))
            case _:
                out[at:at] = out[at : at + 10]
        if not out:
            out = bytearray(b"\x30")
    return bytes(out)


def wild(seed: int, count: int) -> bytes:
    """A capture with ``count`` connections, each of which goes wrong at another place."""
    choice = random.Random(seed)
    frames: list[bytes] = []
    for number in range(count):
        made = life(choice.choice(list(POLICIES)))
        if number % 3:
            # A damaged SecPDU in sound OSI layers.
            last = choice.randrange(len(made.sent))
            again = World(made.pair, [])
            for who, carrier, pdu in made.sent[:last]:
                again.put(who, carrier, pdu)
            who, carrier, pdu = made.sent[last]
            again.put(who, carrier, mutated(pdu, choice))
            octets = again.frames
        else:
            last = choice.randrange(2, len(made.frames))
            request, damaged, at_ms = made.frames[last]
            octets = [*made.frames[:last], (request, mutated(damaged, choice), at_ms), *made.frames[last + 1 :]]
        packets = writer.segments(octets, size=choice.choice((1400, 1400, 40)))
        frames += [writer.ipv4(packet, (10_000 + number, 102)) for packet in packets]
    return writer.pcap_of(frames, at_ms=made.frames[0][2])


@pytest.mark.parametrize("passes", [(), ("-2",)])
def test_damaged_pdus_give_no_lua_error(passes: tuple[str, ...]) -> None:
    capture = wild(len(passes), 80)
    text = tshark(capture, "-V", *passes)
    assert "Lua Error" not in text
    assert "[Lua" not in text
    assert text.count("    Malformed: ") > 20
    records(capture)


def test_frames_cut_short_give_no_lua_error() -> None:
    for snap in (100, 300, 700):
        capture = writer.pcap(writer.segments(life("cbc-gmac").frames), snap=snap)
        assert "Lua Error" not in tshark(capture, "-V")


def test_the_check_for_lua_errors_can_fail(tmp_path: Path) -> None:
    """A dissector with a fault in it is noticed."""
    from fastsec.inspect import LUA

    broken = tmp_path / "broken.lua"
    broken.write_text(
        LUA.read_text().replace("local names = BY_TAG[pdu.tag]", 'local names = BY_TAG[pdu.tag] error("x")')
    )
    broken.chmod(0o644)
    assert "Lua Error" in tshark(writer.pcap(writer.segments(life().frames)), "-V", script=broken)
    broken.write_text("this is no Lua")
    with pytest.raises(AssertionError):
        tshark(writer.pcap(writer.segments(life().frames)), script=broken)


# --- what goes over real sockets --------------------------------------------------------------------------------------


@pytest.mark.interop
@pytest.mark.parametrize("mode", REAL_POLICIES)
def test_a_real_association(mode: str, tmp_path: Path) -> None:
    import time

    begun = time.time_ns() // 1_000_000
    frames = asyncio.run(converse(tmp_path, REAL_POLICIES[mode], "p256"))
    for link in by_link(frames):
        packets = writer.segments([(request, octets, begun) for request, octets in link], size=300)
        compare(writer.pcap(packets))
