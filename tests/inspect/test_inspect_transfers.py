"""Opening with keys of a log agrees with the engine's own guards, PDU by PDU; and what the key log may look like."""

from __future__ import annotations

from pathlib import Path

import inspect_writer as writer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_world import POLICIES, anomalies, records, secpdus, whole_life, world

from engine_pair import ANSWER, INITIATE, READ
from fastsec._core.crypto import aes_cbc, hmac_sha256
from fastsec._core.guard import scan_transfer
from fastsec.aio.keylog import KeyLogFile
from fastsec.errors import DecodeError, PeerError, ReplayError
from fastsec.inspect import transfer
from fastsec.inspect.association import TRIALS_MAX
from fastsec.inspect.keylog import LINES_MAX, KeyLog
from fastsec.inspect.source import Damage
from fastsec.inspect.transfer import Key, open_with, parse
from fastsec.secpdu.fields import Carrier
from secpdu.transfer_values import SUITES, T0, key_octets, open_guard, seal_guard, suite_id

APPL = b"\xa0\x03\x02\x01\x05"
MODES = {"HMAC": "hmac", "GMAC": "gmac", "CBC_HMAC": "cbc-hmac", "CBC_GMAC": "cbc-gmac", "AE": "ae"}


def key_of(suite: object, seed: int = 1) -> Key:
    ik, ek = key_octets(suite, seed)  # type: ignore[arg-type]
    return Key(MODES[suite.mode], suite.icv_len, ik, ek)  # type: ignore[attr-defined]


@pytest.mark.parametrize("suite", SUITES, ids=suite_id)
def test_sealed_pdus_open(suite: object) -> None:
    guard = seal_guard(suite)  # type: ignore[arg-type]
    for appl in (APPL, b"\x05\x00", b"\xa0\x82\x01\x00" + bytes(256), b"\xc0\x01\x00"):
        pdu = guard.seal(appl, T0)
        assert open_with(parse(pdu), key_of(suite)) == appl
        with pytest.raises(PeerError) as caught:
            open_with(parse(pdu), key_of(suite, seed=2))
        assert caught.value.check == "icv"


def verdict_of_the_guard(suite: object, pdu: bytes) -> str:
    try:
        open_guard(suite).open(pdu, T0)  # type: ignore[arg-type]
    except ReplayError:
        return ""  # the order is judged elsewhere
    except PeerError as error:
        return "" if error.check == "asso-id" else error.check
    return ""


def verdict_of_inspect(suite: object, pdu: bytes) -> str:
    try:
        open_with(parse(pdu), key_of(suite))
    except PeerError as error:
        return error.check
    return ""


@pytest.mark.parametrize("suite", SUITES, ids=suite_id)
def test_every_flipped_bit_is_judged_as_the_guard_judges_it(suite: object) -> None:
    pdu = seal_guard(suite).seal(APPL, T0)  # type: ignore[arg-type]
    for at in range(len(pdu)):
        for bit in range(0, 8, 3):
            damaged = pdu[:at] + bytes((pdu[at] ^ 1 << bit,)) + pdu[at + 1 :]
            wanted = verdict_of_the_guard(suite, damaged)
            found = verdict_of_inspect(suite, damaged)
            if found != wanted:
                # assoID is looked at before the ICV there, and not at all here.
                assert (wanted, found) == ("", "icv"), (at, bit)
                with pytest.raises(PeerError) as caught:
                    open_guard(suite).open(damaged, T0)  # type: ignore[arg-type]
                assert caught.value.check == "asso-id"


@pytest.mark.parametrize("tail", [b"\x0b" * 11, bytes(10) + b"\x0b", b"\x0b" * 10 + b"\x00", b"\x0b" * 10 + b"\x11"])
def test_padding_is_judged_as_the_guard_judges_it(tail: bytes) -> None:
    suite = next(suite for suite in SUITES if suite.mode == "CBC_HMAC")
    ik, ek = key_octets(suite)
    pdu = seal_guard(suite).seal(APPL, T0)
    sealed = parse(pdu)
    assert sealed.iv is not None
    assert sealed.auth is not None
    data = aes_cbc(ek, sealed.iv, APPL + tail, True)
    forged = pdu.replace(sealed.data, data)
    forged = forged.replace(sealed.auth.icv, hmac_sha256(ik, parse(forged).tbp))
    verdict = verdict_of_the_guard(suite, forged)
    assert verdict == verdict_of_inspect(suite, forged)
    assert bool(verdict) == (tail != b"\x0b" * 11)


@pytest.mark.parametrize("suite", [suite for suite in SUITES if suite.icv_len and "AE" not in suite.mode], ids=suite_id)
@pytest.mark.parametrize("size", [0, 1, 11, 12, 13, 16, 17, 31, 33])
def test_an_icv_of_another_length(suite: object, size: int) -> None:
    pdu = seal_guard(suite).seal(APPL, T0)  # type: ignore[arg-type]
    auth = parse(pdu).auth
    assert auth is not None
    icv = (auth.icv * 3)[:size]
    tbp = pdu[2:] if pdu[1] < 128 else pdu[3:]
    inner = tbp[: 2 + tbp[1]] if tbp[1] < 128 else tbp[: 3 + tbp[2]]
    head = b"" if auth.nonce is None else b"\x80\x0c" + auth.nonce
    assert auth.algorithm is not None
    content = head + auth.algorithm.der + bytes((4, size)) + icv
    whole = inner + bytes((0x30, len(content))) + content
    forged = b"\x30\x81" + bytes((len(whole),)) + whole
    assert parse(forged).auth == auth._replace(icv=icv)
    verdict = verdict_of_inspect(suite, forged)
    assert verdict == verdict_of_the_guard(suite, forged) == ("" if icv == auth.icv else "icv")


@settings(max_examples=200)
@given(suite=st.sampled_from(SUITES), data=st.data())
def test_whatever_comes_is_taken_apart_or_refused(suite: object, data: st.DataObject) -> None:
    pdu = bytearray(seal_guard(suite).seal(APPL, T0))  # type: ignore[arg-type]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(pdu) - 1))
        pdu[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        if not pdu:
            break
    octets = bytes(pdu)
    try:
        scan_transfer(octets)
    except DecodeError:
        with pytest.raises(DecodeError):
            parse(octets)
        return
    parse(octets)
    verdict_of_inspect(suite, octets)


def test_an_oid_that_cannot_be_read_is_not_the_agreed_algorithm() -> None:
    """As the engine has it, which compares octets."""
    suite = next(suite for suite in SUITES if suite.mode == "HMAC")
    pdu = seal_guard(suite).seal(APPL, T0)
    for wrong in (b"\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x89", b"\x06\x08\x2a\x80\x48\x86\xf7\x0d\x02\x09"):
        forged = pdu.replace(b"\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x09", wrong)
        assert forged != pdu
        assert verdict_of_inspect(suite, forged) == verdict_of_the_guard(suite, forged) == "icv-algorithm"


def test_optional_fields_in_the_indefinite_form() -> None:
    """tbp, token2 with end-of-contents octets: these are covered too."""
    from fastsec.negotiation import HMAC_SHA256

    token = b"\x30\x80\x0c\x031:2\x18\x1320261120114419.000Z\x02\x01\x07\x83\x01\xff\0\0"
    tbp = token + APPL + b"\0\0"
    icv = hmac_sha256(bytes(32), tbp)
    auth = HMAC_SHA256.der + b"\x04\x20" + icv
    content = b"\x30\x80" + tbp + b"\x30" + bytes((len(auth),)) + auth
    pdu = parse(b"\x30\x81" + bytes((len(content),)) + content)
    assert (pdu.asso_id, pdu.seq, pdu.changed_key, pdu.data) == ("1:2", 7, True, APPL)
    assert open_with(pdu, Key("hmac", 32, bytes(32), b"")) == APPL


# --- whole associations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", POLICIES)
def test_plaintext_of_a_whole_life(mode: str) -> None:
    made = whole_life(POLICIES[mode])
    found = secpdus(records(writer.pcap(writer.segments(made.frames)), made.key_log, full=True))
    transfers = [pdu for pdu in found if "token2" in pdu]
    assert all(pdu["opened"]["icv"] == "verified" for pdu in transfers)
    assert [pdu["opened"]["epoch"] for pdu in transfers] == sorted(pdu["opened"]["epoch"] for pdu in transfers)
    assert transfers[-1]["opened"]["epoch"] == 2
    plain = [pdu["applData"]["hex"] for pdu in transfers]
    assert plain.count(READ.hex()) == 6
    assert plain.count(ANSWER.hex()) == 6
    assert {pdu["applData"]["mms"] for pdu in transfers} == {"confirmed-Request", "confirmed-Response", "NULL"}
    assert not anomalies(records(writer.pcap(writer.segments(made.frames)), made.key_log))


def test_without_the_right_keys_nothing_is_shown() -> None:
    made, other = whole_life(), whole_life()
    capture = writer.pcap(writer.segments(made.frames))
    for keys in (None, KeyLog(), other.key_log):
        found = secpdus(records(capture, keys, full=True))
        assert [pdu for pdu in found if "token2" in pdu]
        for pdu in found:
            if "token2" in pdu:
                assert "applData" not in pdu
                assert keys is None or not keys or pdu["opened"]["icv"] is None
    assert not anomalies(records(capture, other.key_log))


def test_a_log_without_one_epoch() -> None:
    made = whole_life()
    keys = KeyLog(line for line in made.keys if "from=server epoch=1 " not in line)
    found = [pdu for pdu in secpdus(records(writer.pcap(writer.segments(made.frames)), keys)) if "token2" in pdu]
    problems = {pdu["opened"]["problem"] for pdu in found if pdu["opened"]["icv"] is None}
    assert "the key log lacks the key of the server's epoch 1" in problems
    assert all(pdu["opened"]["icv"] == "verified" for pdu in found if pdu["opened"].get("from") == "client")


@pytest.mark.parametrize("mode", POLICIES)
def test_a_changed_octet_is_told(mode: str) -> None:
    """What the server says of it, inspect says too, with the same event."""
    made = world(POLICIES[mode])
    made.pair.open().confirm()
    from fastsec.association import Send
    from forge import flip_last

    made.change = lambda who, sent: (
        Send(sent.carrier, flip_last(sent.pdu or b"")) if sent.carrier is Carrier.DATA else sent
    )
    made.pair.client.send(READ)
    made.pair.move()
    (mnemonic,) = made.pair.server.events
    found = records(writer.pcap(writer.segments(made.frames)), made.key_log)
    told = [one["mnemonic"] for record in found for one in record.get("anomalies", [])]
    assert told == [mnemonic]
    last = [pdu for pdu in secpdus(found) if "token2" in pdu][-1]
    assert last["opened"]["icv"] == "wrong"


def test_one_key_log_for_many_associations(tmp_path: Path) -> None:
    """As a gateway writes it, both sides into one file."""
    path = tmp_path / "keys.log"
    log = KeyLogFile(path)
    lives = [whole_life(POLICIES[mode]) for mode in ("ae", "hmac", "cbc-gmac")]
    for made in lives:
        for line in (*made.keys, *made.keys):
            log(line)
    log.close()
    keys = KeyLog(path.read_text().splitlines())
    for made in lives:
        for pdu in secpdus(records(writer.pcap(writer.segments(made.frames)), keys)):
            assert "token2" not in pdu or pdu["opened"]["icv"] == "verified"


def test_trials_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log with many associations of one number does not make each PDU cost more."""
    made = world()
    made.pair.open().confirm()
    (line, *_) = made.keys
    wrong = [line.replace(line.split()[2], f"h2={n:064x}").replace(line[-8:], f"{n:08x}") for n in range(9999)]
    middle = [frame for frame in made.frames if len(frame[1]) < 300 and frame[0]][1:]
    found = secpdus(records(writer.pcap(writer.segments(middle * 50, handshake=False)), KeyLog([*made.keys, *wrong])))
    problems = [pdu["opened"]["problem"] for pdu in found]
    assert problems[:4] == ["no key of the key log fits"] * 4
    assert set(problems[5:]) == {"the key log has no key for this association"}
    # One association with very many keys is no way around.
    epochs = [line.replace("epoch=0", f"epoch={n}").replace(line[-8:], f"{n:08x}") for n in range(3000)]
    tried = []
    monkeypatch.setattr(transfer, "open_with", lambda pdu, key: tried.append(key) or open_with(pdu, key))
    records(writer.pcap(writer.segments(middle * 50, handshake=False)), KeyLog(epochs))
    assert len(tried) == TRIALS_MAX


# --- the key log ------------------------------------------------------------------------------------------------------

GOOD = f"fastsec-key 1 h2={'ab' * 32} asso=1:2 from=client epoch=0 mode=ae icv=16 ik=- ek={'cd' * 16}"


def test_a_good_line() -> None:
    keys = KeyLog(["# comment", "", GOOD + "\n"])
    assert keys.of_handshake(b"\xab" * 32) == {("client", 0): Key("ae", 16, b"", b"\xcd" * 16)}
    assert keys.of_number("1:2") == [keys.of_handshake(b"\xab" * 32)]
    assert keys.of_number("1:3") == []
    assert keys.of_handshake(bytes(32)) is None
    assert keys
    assert not KeyLog()


@pytest.mark.parametrize(
    "line",
    [
        "CLIENT_RANDOM 00 00",
        GOOD.replace("fastsec-key 1", "fastsec-key 2"),
        GOOD.replace("ek=" + "cd" * 16, "ek=" + "cd" * 15),
        GOOD.replace("ek=" + "cd" * 16, "ek=-"),
        GOOD.replace("ik=-", "ik=" + "00" * 32),
        GOOD.replace("mode=ae", "mode=hmac"),
        GOOD.replace("mode=ae", "mode=gmac"),
        GOOD.replace("mode=ae", "mode=none"),
        GOOD.replace("icv=16", "icv=17"),
        GOOD.replace("from=client", "from=both"),
        GOOD.replace("asso=1:2", "asso=1"),
        GOOD + " more",
        GOOD + "0" * 2000,
        "\x1b[2J",
    ],
)
def test_a_bad_line_is_damage_with_its_number(line: str) -> None:
    with pytest.raises(Damage, match="key log, line 2: ") as caught:
        KeyLog([GOOD, line])
    assert "\x1b" not in str(caught.value)


def test_lines_are_bounded() -> None:
    with pytest.raises(Damage, match="lines"):
        KeyLog("" for _ in range(LINES_MAX + 1))


def test_the_initiate_travels_in_clear() -> None:
    made = world()
    made.pair.open()
    found = secpdus(records(writer.pcap(writer.segments(made.frames)), full=True))
    assert found[0]["applData"] == {"mms": "initiate-Request", "octets": len(INITIATE), "hex": INITIATE.hex()}
