"""Guards: every mode against the reference, every manipulation against the list of checks."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest
from guardkit import (
    ASSO,
    BY_NAME,
    DATA,
    KEYS,
    KINDS,
    START,
    T0,
    Kind,
    Pieces,
    appl,
    every_kind,
    gcm_algorithm,
    hmac_algorithm,
    next_iv,
    resign,
    token2,
    verdict,
)
from hypothesis import given
from hypothesis import strategies as st

from fastsec import limits, profile
from fastsec._core.crypto import Secret
from fastsec._core.guard import (
    MODE_AE,
    MODE_GMAC,
    MODE_HMAC,
    GuardParams,
    Opened,
    OpenGuard,
    SealGuard,
    scan_transfer,
)
from fastsec.errors import LocalError, PeerError
from reference.tlv import tlv

kinds = st.sampled_from(KINDS)


# --- both ways with the reference -----------------------------------------------------------------------------------
@every_kind
def test_opens_what_the_reference_seals_and_the_reverse(kind: Kind) -> None:
    ours, theirs = kind.seal_guard(), kind.sender()
    ours_in, theirs_in = kind.open_guard(), kind.receiver()
    for step, size in enumerate([2, 3, 15, 16, 17, 129, 256, 258, 1000, 65_000]):
        now = T0 + step // 3
        pdu = ours.seal(appl(size), now)
        if not kind.suite.encr:  # CBC draws its IV
            assert pdu == theirs.seal(appl(size), now)
        else:
            assert ours_in.open(theirs.seal(appl(size), now), now).appl_data == appl(size)
        assert theirs_in.open(pdu, now).appl_data == appl(size)
        if not kind.suite.encr:
            assert ours_in.open(pdu, now).appl_data == appl(size)
    assert ours.count == theirs_in.count == ours_in.count == 10


@every_kind
def test_key_update_fields(kind: Kind) -> None:
    ours, theirs = kind.seal_guard(), kind.receiver()
    incoming = kind.open_guard()
    ours.rekey = (23, b"\x04" + bytes(64))
    ours.req_rekey = True
    pdu = ours.seal(DATA, T0)
    assert scan_transfer(pdu) == (int(kind.encrypting), True, True, False)
    assert theirs.open(pdu, T0) == (DATA, (23, b"\x04" + bytes(64)), True, False)
    opened = incoming.open(pdu, T0)
    assert (opened.appl_data, opened.rekey, opened.req_rekey, opened.changed_key, opened.unknown) == (
        DATA,
        (23, b"\x04" + bytes(64)),
        True,
        False,
        False,
    )
    assert ours.rekey is None
    assert ours.req_rekey
    ours.req_rekey = False
    ours.changed_key = True
    pdu = ours.seal(b"\x05\x00", T0)
    assert scan_transfer(pdu) == (int(kind.encrypting), False, False, True)
    assert theirs.open(pdu, T0) == (None, None, False, True)
    opened = incoming.open(pdu, T0)
    assert (opened.appl_data, opened.rekey, opened.req_rekey, opened.changed_key) == (None, None, False, True)
    assert not ours.changed_key
    pdu = ours.seal(DATA, T0)
    assert scan_transfer(pdu) == (int(kind.encrypting), False, False, False)
    assert incoming.open(pdu, T0).appl_data == DATA


@given(kinds, st.lists(st.tuples(st.integers(-5000, 5000), st.integers(2, 400)), max_size=12))
def test_any_sequence_of_clock_and_sizes(kind: Kind, steps: list[tuple[int, int]]) -> None:
    """The sender's clock may step in both directions: what it sends stays in order, and acceptable."""
    ours, theirs = kind.seal_guard(), kind.sender()
    ours_in, theirs_in = kind.open_guard(), kind.receiver()
    for clock, size in steps:
        data = b"\xa1" + tlv(0x04, bytes(size))[1:]
        pdu = ours.seal(data, T0 + clock)
        assert theirs_in.open(pdu, T0).appl_data == data
        assert ours_in.open(theirs.seal(data, T0 + clock), T0).appl_data == data
        assert ours.last_time == theirs.time


@every_kind
def test_appl_data_kinds(kind: Kind) -> None:
    seal, incoming = kind.seal_guard(), kind.open_guard()
    for data in (b"\x80\x00", b"\xbf\x81\x01\x00", b"\xc0\x01a", b"\xe0\x02\x05\x00", b"\x8b\x00"):
        assert incoming.open(seal.seal(data, T0), T0).appl_data == data
    for data in (
        b"",
        b"\xa0",
        b"\xa0\x01",
        b"\xa0\x00\x00",
        b"\x30\x00",
        b"\x04\x00",
        b"\x60\x00",
        b"\xc1\x00",
        b"\xdf\x20\x00",
        b"\x05\x00\x00",
        b"\x05\x01\x00",
        b"\xa0\x80\x00\x00",
        b"\x00\x00",
    ):
        with pytest.raises(LocalError):
            seal.seal(data, T0)
        wanted = "wrong-kind" if data == b"\x04\x00" and not kind.encrypting else "protocol-error"
        assert verdict(incoming, resign(kind, token2(kind, seq=5), plain=data)) == wanted
    assert seal.count == 5


# --- ends of the number ranges ---
SMALL_NUMBERS = """
from fastsec import limits
limits.OUR_SEQ_MAX = 2
limits.OUR_MESSAGES_PER_KEY = 9
from guardkit import BY_NAME, T0, appl
from fastsec._core.osidata import OsiChannel
from fastsec.errors import LimitReached
kind = BY_NAME["gcm128-16"]
seal, guard = kind.seal_guard(), kind.open_guard()
for time in (0, 0, 0, 1, 1, 1, 2, 2):
    guard.open(seal.seal(appl(9), T0), T0)
    assert seal.last_time == f"20261120120000.00{time}Z", (seal.last_time, time)
channel = OsiChannel(100)
channel.arm_tx(seal, 5, 128)
try:
    channel.seal_batch([appl(9), appl(9)], T0)
except LimitReached as error:
    assert error.limit == "OUR_MESSAGES_PER_KEY" and seal.count == 8
else:
    raise AssertionError
guard.open(seal.seal(appl(9), T0 + 1), T0)
for call in (lambda: seal.seal(appl(9), T0), lambda: channel.seal(appl(9), T0)):
    try:
        call()
    except LimitReached as error:
        assert error.limit == "OUR_MESSAGES_PER_KEY" and seal.count == 9
    else:
        raise AssertionError
new = kind.seal_guard(previous=seal)
guard.open(new.seal(appl(9), T0), T0)
"""


def test_last_seq_moves_the_time_and_the_last_message_ends_the_key() -> None:
    """In a process of its own whose limits are small before the module reads them."""
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run([sys.executable, "-c", SMALL_NUMBERS], check=True, env=os.environ | {"PYTHONPATH": path})


# --- across keys ----------------------------------------------------------------------------------------------------
@every_kind
def test_new_key_continues_time_sequence_and_nonce(kind: Kind) -> None:
    other = bytes(reversed(KEYS))
    seal, guard = kind.seal_guard(), kind.open_guard()
    first = [seal.seal(DATA, T0) for _ in range(3)]
    for pdu in first:
        guard.open(pdu, T0)
    new_seal, new_guard = kind.seal_guard(previous=seal, keys=other), kind.open_guard(previous=guard, keys=other)
    assert new_seal.count == new_guard.count == 0
    pdu = new_seal.seal(DATA, T0)
    assert b"\x02\x01\x03" in pdu
    if "gmac" in kind.name or kind.mode == MODE_AE:
        assert (3).to_bytes(12, "big") in pdu
    assert verdict(guard, pdu) == "icv"
    assert new_guard.open(pdu, T0).appl_data == DATA
    # One window for both: nothing old comes in again under either key.
    assert verdict(guard, first[2]) == "replay"
    assert verdict(guard, first[0]) == "replay"
    # A last PDU under the old key still has its place in the order.
    late = seal.seal(DATA, T0)
    assert guard.open(late, T0).appl_data == DATA
    assert verdict(new_guard, pdu) == "replay"
    seal.wipe()
    assert new_guard.open(new_seal.seal(DATA, T0), T0).appl_data == DATA


@pytest.mark.parametrize("kind", [k for k in KINDS if k.mode == MODE_AE or "gmac" in k.name], ids=str)
def test_nonces_count(kind: Kind) -> None:
    seal = kind.seal_guard()
    for number in range(300):
        assert number.to_bytes(12, "big") in seal.seal(DATA, T0)


@pytest.mark.parametrize("kind", [k for k in KINDS if k.suite.encr], ids=str)
def test_ivs_differ(kind: Kind) -> None:
    seal = kind.seal_guard()
    ivs = {next_iv(Pieces.of(kind, seal.seal(DATA, T0)).token) for _ in range(500)}
    assert len(ivs) == 500


def test_ivs_differ_after_fork() -> None:
    """IVs are drawn ahead; a child that went on with its parent's would send the same ones."""
    seal = BY_NAME["cbc128-hmac"].seal_guard()
    seal.seal(DATA, T0)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, seal.seal(DATA, T0))
        os._exit(0)
    ours = seal.seal(DATA, T0)
    os.waitpid(child, 0)
    theirs = os.read(read, 1000)
    os.close(read)
    os.close(write)
    assert len(theirs) == len(ours)
    assert Pieces.of(BY_NAME["cbc128-hmac"], ours).token != Pieces.of(BY_NAME["cbc128-hmac"], theirs).token


# --- life of a guard ------------------------------------------------------------------------------------------------
@every_kind
def test_wipe(kind: Kind) -> None:
    seal, guard = kind.seal_guard(), kind.open_guard()
    pdu = seal.seal(DATA, T0)
    seal.wipe()
    guard.wipe()
    seal.wipe()
    with pytest.raises(LocalError):
        seal.seal(DATA, T0)
    with pytest.raises(LocalError):
        guard.open(pdu, T0)


@every_kind
def test_key_material_may_be_wiped_after_construction(kind: Kind) -> None:
    keys = Secret.from_bytes(KEYS)
    seal = SealGuard(kind.params, keys, kind.ik, kind.ek, start_time=START)
    guard = OpenGuard(kind.params, keys, kind.ik, kind.ek, start_time=START)
    keys.wipe()
    assert guard.open(seal.seal(DATA, T0), T0).appl_data == DATA
    with pytest.raises(LocalError):
        SealGuard(kind.params, keys, kind.ik, kind.ek, start_time=START)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[-1]], ids=str)
def test_the_largest_appl_data_and_one_octet_more(kind: Kind) -> None:
    largest = (1 << 24) - 4096
    tx, rx = kind.seal_guard(), kind.open_guard()
    tx.rekey = (14, bytes(1024))
    tx.req_rekey = tx.changed_key = True
    data = b"\xa0\x83" + (largest - 5).to_bytes(3, "big") + bytes(largest - 5)
    assert rx.open(tx.seal(data, T0), T0).appl_data == data
    with pytest.raises(LocalError):
        tx.seal(b"\xa0\x83" + (largest - 4).to_bytes(3, "big") + bytes(largest - 4), T0)


def test_message_limits() -> None:
    seal = BY_NAME["hmac"].seal_guard()
    assert seal.soft_limit == limits.OUR_MESSAGES_PER_KEY_SOFT
    assert not seal.due
    seal.soft_limit = 2
    seal.seal(DATA, T0)
    assert not seal.due
    seal.seal(DATA, T0)
    assert seal.due


def test_failed_seal_uses_nothing_up() -> None:
    kind = BY_NAME["gcm128-16"]
    seal, guard = kind.seal_guard(), kind.open_guard()
    seal.rekey = (23, b"a" * 2000)
    with pytest.raises(LocalError):
        seal.seal(DATA, T0)
    seal.rekey = (-1, b"")
    with pytest.raises(LocalError):
        seal.seal(DATA, T0)
    seal.rekey = None
    for clock in (-1, 253402300799999, 2**62):
        with pytest.raises(LocalError):
            seal.seal(DATA, clock)
    assert seal.count == 0
    assert seal.last_time == START
    pdu = seal.seal(DATA, T0)
    assert b"\x80\x0c" + bytes(12) in pdu
    guard.open(pdu, T0)


@pytest.mark.parametrize(
    "values",
    [
        (5, ASSO, b"", 16, 16, 0),
        (MODE_AE, ASSO, b"", 11, 16, 0),
        (MODE_AE, ASSO, b"", 17, 16, 0),
        (MODE_AE, ASSO, b"", 16, 24, 0),
        (MODE_AE, ASSO, b"", 16, 16, 16),
        (MODE_AE, ASSO, hmac_algorithm(), 16, 16, 0),
        (MODE_AE, "", b"", 16, 16, 0),
        (MODE_AE, "1234:123", b"", 16, 16, 0),
        (MODE_HMAC, ASSO, b"", 32, 0, 32),
        (MODE_HMAC, ASSO, hmac_algorithm(), 16, 0, 32),
        (MODE_HMAC, ASSO, hmac_algorithm(), 32, 16, 32),
        (MODE_HMAC, ASSO, hmac_algorithm(), 32, 0, 16),
        (MODE_HMAC, ASSO, hmac_algorithm() + b"\x00", 32, 0, 32),
        (MODE_HMAC, ASSO, gcm_algorithm(profile.AES128_GCM, 16), 32, 0, 32),
        (MODE_HMAC, ASSO, tlv(0x30, bytes(200)), 32, 0, 32),
        (MODE_GMAC, ASSO, gcm_algorithm(profile.AES128_GCM, 16), 12, 0, 16),
        (MODE_GMAC, ASSO, gcm_algorithm(profile.AES128_GCM, 16), 16, 0, 24),
        (MODE_GMAC, ASSO, gcm_algorithm(profile.AES128_GCM, 11), 11, 0, 16),
    ],
)
def test_parameters_must_fit_together(values: tuple[int, str, bytes, int, int, int]) -> None:
    with pytest.raises(LocalError):
        GuardParams(*values)


def test_keys_must_fit() -> None:
    params = BY_NAME["cbc128-hmac"].params
    keys = Secret.from_bytes(KEYS)
    for ik, ek in (
        (None, (0, 16)),
        ((0, 32), None),
        ((0, 16), (0, 16)),
        ((0, 32), (0, 32)),
        ((65, 32), (0, 16)),
        ((-1, 32), (0, 16)),
        ((0, 32), (2**62, 16)),
    ):
        for guard in (SealGuard, OpenGuard):
            with pytest.raises(LocalError):
                guard(params, keys, ik, ek, start_time=START)
    for guard in (SealGuard, OpenGuard):
        with pytest.raises(LocalError):
            guard(params, keys, (0, 32), (0, 16))
        with pytest.raises(LocalError):
            guard(params, keys, (0, 32), (0, 16), start_time="yesterday")
    with pytest.raises(LocalError):
        SealGuard(params, keys, (0, 32), (0, 16), start_time="19691231235959.999Z")


def test_nothing_tells_a_secret() -> None:
    kind = BY_NAME["gcm128-16"]
    for thing in (kind.seal_guard(), kind.open_guard(), kind.params, Opened()):
        assert KEYS[40:56].hex() not in repr(thing).encode().hex()
    with pytest.raises(PeerError) as caught:
        kind.open_guard().open(resign(kind, token2(kind, seq=3), plain=b"\xa0\x06secret"), T0)
    assert "secret" not in str(caught.value)
    with pytest.raises(TypeError):
        pickle.dumps(kind.seal_guard())
