"""Model -> DER -> model for every signed SecPDU, and the same octets and values from the independent implementation."""

from __future__ import annotations

import pytest
import secpdu_values as values
from hypothesis import given
from hypothesis import strategies as st

from fastsec.errors import DecodeError
from fastsec.secpdu import der
from fastsec.secpdu.fields import Body, SecPdu
from fastsec.secpdu.model import AlgorithmId, ClearToken1, ClearToken3, Control, Handshake, SecPduKind
from reference import secpdu as reference
from reference.tlv import Fault

handshakes = pytest.mark.parametrize("row", values.HANDSHAKES, ids=lambda row: row.kind.value)
controls = pytest.mark.parametrize("row", values.CONTROLS, ids=lambda row: row.kind.value)
signed = pytest.mark.parametrize("row", values.SIGNED_ROWS, ids=lambda row: row.kind.value)


@handshakes
@given(token=values.token1s, parts=values.handshake_parts(), algo=values.algorithms, sign=st.binary(max_size=1024))
def test_handshake(
    row: SecPdu, token: ClearToken1, parts: tuple[str, bytes | None], algo: AlgorithmId, sign: bytes
) -> None:
    pp, appl_data = parts
    tbs = der.encode_handshake_tbs(token, appl_data)
    octets = der.assemble(row.kind, pp, tbs, algo, sign)
    pdu = der.decode(row.carrier, octets)
    assert pdu == Handshake(row.kind, pp, token, appl_data, tbs, algo, sign)
    assert der.kind_of(row.carrier, octets) is row.kind

    name = row.kind.standard_name
    assert reference.encode_tbs(name, values.as_reference_token(token), appl_data=appl_data) == tbs
    assert reference.assemble(name, pp, tbs, values.as_reference_algorithm(algo), sign) == octets
    assert reference.decode(row.carrier.value, octets) == values.as_reference(pdu)


@controls
@given(
    token=values.token3s,
    diag=st.none() | st.integers(0, 2**31 - 1),
    appl_data=st.none() | values.mms_pdus | values.opaque_pdus,
    algo=values.algorithms,
    sign=st.binary(max_size=1024),
)
def test_control(
    row: SecPdu, token: ClearToken3, diag: int | None, appl_data: bytes | None, algo: AlgorithmId, sign: bytes
) -> None:
    if row.body is Body.DIAG:
        appl_data = None
    else:
        diag = None
    tbs = der.encode_control_tbs(row.kind, token, diag, appl_data)
    octets = der.assemble(row.kind, None, tbs, algo, sign)
    pdu = der.decode(row.carrier, octets)
    assert pdu == Control(row.kind, token, diag, appl_data, tbs, algo, sign)
    assert der.kind_of(row.carrier, octets) is row.kind

    name = row.kind.standard_name
    assert reference.encode_tbs(name, values.as_reference_token(token), diag, appl_data) == tbs
    assert reference.assemble(name, None, tbs, values.as_reference_algorithm(algo), sign) == octets
    assert reference.decode(row.carrier.value, octets) == values.as_reference(pdu)


def edited(octets: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for position, removed, inserted in edits:
        position %= len(octets) + 1
        octets = octets[:position] + inserted + octets[position + removed :]
    return octets


@signed
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 3), st.binary(max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_both_judge_damaged_octets_alike(row: SecPdu, edits: list[tuple[int, int, bytes]]) -> None:
    octets = edited(values.sample(row), edits)
    try:
        mine: object = values.as_reference(der.decode(row.carrier, octets))
    except DecodeError:
        mine = None
    try:
        other: object = values.without_empty_path(reference.decode(row.carrier.value, octets))
    except Fault:
        other = None
    assert mine == other


@signed
@given(octets=st.binary(max_size=200))
def test_random_octets_raise_decode_error_only(row: SecPdu, octets: bytes) -> None:
    with pytest.raises(DecodeError):
        der.decode(row.carrier, octets)


def test_the_kinds_are_eleven() -> None:
    assert len(SecPduKind) == 11
    assert {row.kind for row in values.SIGNED_ROWS} | {SecPduKind.CLEAR_TRANSFER, SecPduKind.ENCR_TRANSFER} == set(
        SecPduKind
    )
