"""Octets that Hypothesis makes up: the parsers give a value or a DecodeError, an endpoint an indication."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.osi.support import MAX_TSDU, PLAIN_RESPONDER, Pair
from envs.osi.test_states import MAKERS
from fastsec._core.cursor import tlv
from fastsec._core.osidata import OsiChannel
from fastsec.envs.osi import AeTitle, Indication, OsiEndpoint, acse, cotp, presentation, session
from fastsec.errors import DecodeError

TAGS = [0x02, 0x03, 0x04, 0x06, 0x28, 0x30, 0x31, 0x60, 0x61, 0x62, 0x63, 0x64, *range(0x80, 0x90), *range(0xA0, 0xC0)]
LEAVES = st.binary(max_size=12)
TLVS = st.recursive(
    st.builds(tlv, st.sampled_from(TAGS), LEAVES),
    lambda inner: st.builds(
        lambda tag, parts: tlv(tag, b"".join(parts)), st.sampled_from(TAGS), st.lists(inner, max_size=5)
    ),
    max_leaves=20,
)
PARAMETER = st.builds(
    lambda code, value: bytes((code, len(value))) + value,
    st.sampled_from([5, 0x11, 0x13, 0x14, 0x16, 0x19, 0x31, 0x32, 0x33, 0x34, 0x3C, 0xC1, 0xC2, 0xFF]),
    st.one_of(LEAVES, TLVS.filter(lambda value: len(value) < 255)),
)
SPDUS = st.builds(
    lambda si, parts: bytes((si, 255)) + len(b"".join(parts)).to_bytes(2, "big") + b"".join(parts),
    st.sampled_from([1, 8, 9, 10, 12, 13, 14, 15, 16, 25, 26, 33]),
    st.lists(PARAMETER, max_size=6),
)
INDICATIONS = get_args(Indication)
SIDES = [make() for _, _, make in MAKERS]


@pytest.mark.parametrize(
    "decode",
    [
        cotp.decode,
        session.decode,
        presentation.decode_connect,
        presentation.decode_accept,
        presentation.decode_refuse,
        presentation.decode_abort,
        presentation.decode_user_data,
        acse.decode,
    ],
)
@given(octets=st.one_of(st.binary(max_size=80), TLVS, SPDUS))
def test_parsers(decode: Callable[[bytes], object], octets: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(octets)


@given(code=st.sampled_from([0xF0, 0xE0, 0xD0, 0x80, 0x70, 0x10]), octets=st.one_of(st.binary(max_size=80), SPDUS))
def test_endpoints(code: int, octets: bytes) -> None:
    for side in SIDES:
        trial = copy.copy(side)
        trial._out = []
        found = trial.receive_tpdu(code, octets)
        assert all(isinstance(each, INDICATIONS) for each in found)
        assert side.closed or found or not trial.closed


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_streams(octets: bytes, cuts: list[int]) -> None:
    """Any octets in any pieces: the channel's DecodeError is the only thing that may come out of it."""
    side = OsiEndpoint("responder", PLAIN_RESPONDER, OsiChannel(MAX_TSDU))
    edges = sorted({0, len(octets), *(cut for cut in cuts if cut < len(octets))})
    with contextlib.suppress(DecodeError):
        for start, stop in itertools.pairwise(edges):
            side.channel.feed(octets[start:stop], 0)
            while (frame := side.channel.next()) is not None:
                assert all(isinstance(each, INDICATIONS) for each in side.receive_tpdu(*frame))


NUMBER = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
ARC = st.integers(0, 2**62)
OID = st.builds(lambda arcs: "1.3." + ".".join(map(str, arcs)), st.lists(ARC, min_size=1, max_size=5))
TITLE = st.builds(AeTitle, st.one_of(st.none(), OID), NUMBER, NUMBER, NUMBER)


@given(OID, TITLE, TITLE, st.one_of(st.none(), st.binary(max_size=40)), st.integers(1, 127), st.binary(max_size=600))
def test_requests_come_back(
    name: str, called: AeTitle, calling: AeTitle, password: bytes | None, context: int, value: bytes
) -> None:
    value = tlv(0x30, value)
    aarq = acse.decode(acse.encode_aarq(acse.aarq_fields(name, called, calling, password), context, value))
    assert isinstance(aarq, acse.Aarq)
    assert (aarq.context_name, aarq.called, aarq.calling) == (name, called, calling)
    assert aarq.authentication.password == password
    assert aarq.user_information == (acse.External(None, context, value),)


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 50))
def test_data_comes_back_in_any_pieces(value: bytes, step: int) -> None:
    pair = Pair.secure(step).associate()
    pdu = tlv(0x30, value)
    pair.responder.data(pdu)
    (indication,) = pair.to_initiator()
    assert getattr(indication, "pdu", None) == pdu
