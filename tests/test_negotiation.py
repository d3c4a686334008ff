"""Negotiation as a pure function: every pairing of offers and policies gives a suite or a named fault, never another
exception, and what the server selects the client accepts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_pair import CLIENT, UTC, config
from fastsec import profile
from fastsec._core.guard import MODE_AE, MODE_CBC_GMAC, MODE_CBC_HMAC, MODE_GMAC, MODE_HMAC
from fastsec.config import Policy
from fastsec.errors import HandshakeError
from fastsec.faults import HANDSHAKE_ACC, HANDSHAKE_REQ
from fastsec.negotiation import (
    APPL_PROTECTED,
    HMAC_SHA256,
    MODE_NAMES,
    V1,
    ae_suite,
    conf_params,
    icv_suite,
    judge_group,
    judge_mode,
    make_offer,
    select_group,
    select_mode,
)
from fastsec.secpdu.model import AeaOffer, AlgorithmId, ClearToken1, DhPublic, NonAeaOffer, algorithm_id
from fastsec.secpdu.timestamp import time_text

GCM = [(oid, n) for oid in (profile.AES128_GCM, profile.AES256_GCM) for n in (12, 13, 16)]
ICV = [(profile.HMAC_SHA256, 32), *GCM]
CBC = [profile.AES128_CBC, profile.AES256_CBC]


def token(encr_mode: AeaOffer | NonAeaOffer, asked: bool) -> ClearToken1:
    return ClearToken1(
        algorithm_id(profile.ECDSA_SHA256),
        b"",
        (),
        V1,
        "5",
        (DhPublic(23, b""),),
        HMAC_SHA256,
        time_text(UTC),
        encr_mode,
        APPL_PROTECTED if asked else 0,
    )


def known(fault: HandshakeError, table: dict[str, object]) -> None:
    assert fault.check in table


def unique(items: list) -> st.SearchStrategy:
    return st.lists(st.sampled_from(items), min_size=1, max_size=4, unique=True)


policies = st.builds(
    Policy,
    encryption=st.sampled_from(["required", "allowed", "forbidden"]),
    ae=st.sampled_from(["allowed", "forbidden"]),
    ae_algorithms=unique(GCM).map(tuple),
    encr_algorithms=unique(CBC).map(tuple),
    icv_algorithms=unique(ICV).map(tuple),
) | st.builds(Policy, ae=st.just("required"), ae_algorithms=unique(GCM).map(tuple))
algorithms = st.sampled_from(
    [algorithm_id(*pair) for pair in ICV]
    + [algorithm_id(oid) for oid in CBC]
    + [AlgorithmId("1.2.3.4"), AlgorithmId(profile.AES128_GCM), AlgorithmId(profile.AES128_GMAC_RFC9044)]
)
lists = st.lists(algorithms, min_size=1, max_size=4, unique=True).map(tuple)
offers = st.builds(AeaOffer, lists) | st.builds(NonAeaOffer, st.none() | lists, lists)


@given(policies, policies)
@settings(max_examples=300)
def test_what_is_selected_from_a_genuine_offer_is_accepted(client: Policy, server: Policy) -> None:
    offer = make_offer(client)
    asked = isinstance(offer, AeaOffer) or offer.encr is not None
    try:
        selected = select_mode(token(offer, asked), server)
    except HandshakeError as fault:
        known(fault, HANDSHAKE_REQ)
        return
    judged = judge_mode(selected.encr_mode, offer)
    assert judged == selected
    assert selected.encrypting == asked
    assert not (server.encryption == "forbidden" and selected.encrypting)
    assert not (server.encryption == "required" and not selected.encrypting)
    assert not (server.ae == "forbidden" and selected.mode == MODE_AE)
    assert not (server.ae == "required" and selected.mode != MODE_AE)


@given(offers, st.booleans(), policies)
@settings(max_examples=500)
def test_any_offer_is_selected_from_or_refused_by_name(
    offer: AeaOffer | NonAeaOffer, asked: bool, server: Policy
) -> None:
    try:
        selected = select_mode(token(offer, asked), server)
    except HandshakeError as fault:
        known(fault, HANDSHAKE_REQ)
        return
    chosen = selected.encr_mode
    if isinstance(chosen, AeaOffer):
        assert isinstance(offer, AeaOffer)
        assert set(chosen.algorithms) <= set(offer.algorithms)
    else:
        assert isinstance(offer, NonAeaOffer)
        assert set(chosen.icv) <= set(offer.icv)
        assert set(chosen.encr or ()) <= set(offer.encr or ())
    params = selected.guard_params("5:6")
    assert params.aes_key_size + params.mac_key_size > 0


@given(offers, offers)
@settings(max_examples=500)
def test_any_answer_is_judged_by_name(answer: AeaOffer | NonAeaOffer, policy_offer: AeaOffer | NonAeaOffer) -> None:
    offer = policy_offer
    if isinstance(offer, AeaOffer):
        offer = AeaOffer(
            tuple(a for a in offer.algorithms if a.oid in profile.GCM_KEY_SIZE) or (algorithm_id(*GCM[0]),)
        )
    else:
        encr = None if offer.encr is None else (algorithm_id(CBC[0]),)
        offer = NonAeaOffer(encr, tuple(a for a in offer.icv if a.pair in ICV) or (HMAC_SHA256,))
    try:
        suite = judge_mode(answer, offer)
    except HandshakeError as fault:
        known(fault, HANDSHAKE_ACC)
        return
    assert suite.encr_mode == answer


def test_sixteen_is_offered_before_twelve_and_the_answer_echoes_the_entry() -> None:
    offer = make_offer(Policy())
    assert isinstance(offer, AeaOffer)
    assert [algorithm.pair for algorithm in offer.algorithms][:2] == [
        (profile.AES128_GCM, 16),
        (profile.AES256_GCM, 16),
    ]
    absent = AlgorithmId(profile.AES128_GCM)  # parameters absent = ICV length 12
    selected = select_mode(token(AeaOffer((absent,)), True), Policy())
    assert selected.encr_mode.algorithms[0] is absent
    assert selected.icv_len == 12


def test_gmac_by_the_identifiers_of_rfc_9044_is_accepted_and_echoed() -> None:
    icv = AlgorithmId(profile.AES256_GMAC_RFC9044)
    server = Policy(encryption="allowed", icv_algorithms=((profile.AES256_GCM, 12),))
    suite = select_mode(token(NonAeaOffer(None, (icv,)), False), server)
    assert suite.mode == MODE_GMAC
    assert suite.mac_key_size == 32
    assert suite.icv_algorithm == icv.der


@pytest.mark.parametrize(
    ("suite", "mode", "sizes"),
    [
        (ae_suite(algorithm_id(profile.AES256_GCM, 16)), MODE_AE, (32, 0, 16)),
        (icv_suite(None, HMAC_SHA256), MODE_HMAC, (0, 32, 32)),
        (icv_suite(None, algorithm_id(profile.AES128_GCM, 14)), MODE_GMAC, (0, 16, 14)),
        (icv_suite(algorithm_id(CBC[1]), HMAC_SHA256), MODE_CBC_HMAC, (32, 32, 32)),
        (icv_suite(algorithm_id(CBC[0]), algorithm_id(profile.AES256_GCM, 12)), MODE_CBC_GMAC, (16, 32, 12)),
    ],
)
def test_sizes_of_each_mode(suite: object, mode: int, sizes: tuple[int, int, int]) -> None:
    assert suite.mode == mode
    assert (suite.aes_key_size, suite.mac_key_size, suite.icv_len) == sizes
    assert MODE_NAMES[mode]


def test_groups() -> None:
    offered = (DhPublic(14, b"a"), DhPublic(23, b"b"))
    assert select_group(offered, Policy(accept_groups=(23, 14))).public == b"b"
    assert select_group(offered, Policy(accept_groups=(28, 14))).public == b"a"
    with pytest.raises(HandshakeError):
        select_group(offered, Policy(accept_groups=(28,)))
    assert judge_group(offered[:1], (14, 23)) is offered[0]
    for wrong in (offered, (DhPublic(28, b""),), ()):
        with pytest.raises(HandshakeError):
            judge_group(wrong, (14, 23))


def test_conf_params_describe_the_own_link() -> None:
    assert conf_params(config(CLIENT), True) == 0b010
    assert conf_params(config(CLIENT, tls_protected=True), False) == 0b001
    assert conf_params(config(CLIENT, tls_protected=True, vpn=True), True) == 0b111
