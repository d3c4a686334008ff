"""CBC: whoever alters a ciphertext learns nothing of its padding; every alteration is the same wrong ICV."""

from __future__ import annotations

import pytest
from guardkit import BY_NAME, T0, appl

from fastsec._core.osidata import OsiChannel
from fastsec.errors import DecodeError, IntegrityError, PeerError
from reference.tlv import tlv

CBC = [kind for kind in BY_NAME.values() if kind.name.startswith("cbc")]


def facts(error: PeerError) -> tuple[object, ...]:
    return type(error), str(error), error.check, error.step, error.code, error.__context__, error.__cause__


@pytest.mark.parametrize("kind", CBC, ids=str)
def test_every_padding_of_an_altered_ciphertext_is_the_same_fault(kind) -> None:
    seal, guard, channel = kind.seal_guard(), kind.open_guard(), OsiChannel(65536)
    channel.arm_rx(guard, -1)
    data = appl(60)
    pdu = seal.seal(data, T0)
    # The last octet of the last but one ciphertext block turns the padding length into every value there is.
    at = pdu.index(tlv(0x04, b"x" * 64)[:2]) + 2 + 64 - 16 - 1
    seen = set()
    for mask in range(1, 256):
        wrong = bytearray(pdu)
        wrong[at] ^= mask
        with pytest.raises(IntegrityError) as caught:
            guard.open(bytes(wrong), T0)
        seen.add(facts(caught.value))
        assert channel.feed(b"\x03\x00" + (len(wrong) + 7).to_bytes(2, "big") + b"\x02\xf0\x80" + wrong, T0) == []
        assert channel.next() is not None
        seen.add(facts(channel.fault))
        channel.feed(b"", T0)
    assert len(seen) == 1
    assert {fact[2] for fact in seen} == {"icv"}
    assert guard.open(pdu, T0).appl_data == data


@pytest.mark.parametrize("kind", CBC, ids=str)
def test_only_who_has_the_keys_is_told_of_bad_padding(kind) -> None:
    """With a right ICV padding and content are one fault too: what was decrypted is no applData."""
    from guardkit import Pieces, resign

    pieces = Pieces.of(kind, kind.seal_guard().seal(appl(60), T0))
    seen = set()
    good = 0
    for last in range(256):
        body = bytearray(pieces.body)
        body[-17] ^= last
        pdu = resign(kind, pieces.token, bytes(body))
        try:
            kind.open_guard().open(pdu, T0)
        except DecodeError as error:
            seen.add(facts(error))
        else:
            good += 1
    assert good >= 1
    assert len(seen) == 1
    assert {fact[2] for fact in seen} == {"protocol-error"}
