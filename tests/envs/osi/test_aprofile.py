"""Certificate-based authentication in AARQ and AARE: octets by hand, what is refused and how, P-ABORT, tshark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aprofile_world import (
    ACSE_CONTEXT,
    AUTHENTICATION_AS,
    AUTHENTICATION_CONTEXT,
    BASIC_AC,
    CONNECTION_REQUEST,
    INITIATE,
    INITIATE_RESPONSE,
    MECHANISM,
    MMS_CONTEXT,
    authentication,
    connect_by_hand,
    der,
    p_abort,
    session_item,
    tpkt,
)
from envs.osi.support import (
    CALLED,
    CALLING,
    PLAIN_INITIATOR,
    PLAIN_RESPONDER,
    SECURE_RESPONDER,
    Pair,
    endpoint,
    take,
)
from fastsec.envs.osi import AbortInd, AssociateCnf, AssociateInd, EnvFault, OsiParams, ProviderAbort
from fastsec.envs.osi.endpoint import OsiEndpoint
from fastsec.errors import ConfigError, LimitReached, LocalError
from interop import pcap

INITIATOR = OsiParams(security=False, a_profile=True, local=CALLING, remote=CALLED)
RESPONDER = OsiParams(security=False, a_profile=True, local=CALLED)

NAMED = der(0x06, AUTHENTICATION_AS)
VALUE = der(0xA0, der(0x80, bytes(700)), der(0x81, b"20260921141320."), der(0x82, bytes(256)))
ANSWER = der(0xA0, der(0x80, b"R" * 600), der(0x81, b"20260921141321."), der(0x82, b"r" * 256))
EXTERNAL = der(0xA2, bytes.fromhex("020105"), der(0xA0, VALUE))
OTHER = der(0xA3, der(0x06, MECHANISM), VALUE)


def proof(value: bytes = EXTERNAL, **more: Any) -> bytes:
    return authentication(value, **more)


def asked(octets: bytes, params: OsiParams = RESPONDER) -> tuple[list[Any], OsiEndpoint]:
    """A responder that got CR and then ``octets``."""
    side = endpoint("responder", params)
    take(side, CONNECTION_REQUEST)
    side.data_to_send()
    return take(side, octets), side


# --- octets by hand ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", [EXTERNAL, OTHER], ids=["external", "other"])
@pytest.mark.parametrize("requirements", ["8a020780", "8a020480"])
def test_a_request_by_hand_is_taken(value: bytes, requirements: str) -> None:
    (found,), _ = asked(connect_by_hand(proof(value, requirements=requirements)))
    assert isinstance(found, AssociateInd)
    assert found.proof == VALUE
    assert found.user_data == INITIATE
    assert found.password is None
    assert found.mechanism == "1.0.840.0.1.0.1.1"


def test_an_own_request_has_the_octets_of_the_specification() -> None:
    pair = Pair.make(INITIATOR, RESPONDER)
    pair.transport()
    pair.initiator.associate(INITIATE, VALUE)
    octets = pair.initiator.data_to_send()
    assert proof() in octets
    assert ACSE_CONTEXT + MMS_CONTEXT + AUTHENTICATION_CONTEXT in octets
    assert BASIC_AC in octets
    other = Pair.make(replace(INITIATOR, a_profile_carrier="other"), RESPONDER)
    other.transport()
    other.initiator.associate(INITIATE, VALUE)
    assert proof(OTHER) in other.initiator.data_to_send()


@pytest.mark.parametrize("value", [EXTERNAL, OTHER], ids=["external", "other"])
def test_the_answer_is_carried_as_the_request_was(value: bytes) -> None:
    _, side = asked(connect_by_hand(proof(value)))
    side.accept(INITIATE_RESPONSE, ANSWER)
    octets = side.data_to_send()
    carried = value[:0] + (
        der(0xA2, bytes.fromhex("020105"), der(0xA0, ANSWER)) if value is EXTERNAL
        else der(0xA3, der(0x06, MECHANISM), ANSWER)
    )  # fmt: skip
    assert bytes.fromhex("88020780") + der(0x89, MECHANISM) + der(0xAA, carried) in octets


@pytest.mark.parametrize(
    "reference",
    [
        b"\x02\x01\x05",
        b"\x02\x01\x07",
        b"",
        der(0x06, AUTHENTICATION_AS),
        der(0x06, AUTHENTICATION_AS) + b"\x02\x01\x05",
    ],
)
def test_without_the_presentation_context(reference: bytes) -> None:
    """The abstract syntax need not be offered; whatever the reference is then, it is the same in the answer."""
    value = der(0xA2, reference, der(0xA0, VALUE))
    (found,), side = asked(connect_by_hand(proof(value), contexts=ACSE_CONTEXT + MMS_CONTEXT))
    assert isinstance(found, AssociateInd)
    assert found.proof == VALUE
    side.accept(INITIATE_RESPONSE, ANSWER)
    named = reference or der(0x06, AUTHENTICATION_AS)
    assert der(0xAA, der(0xA2, named, der(0xA0, ANSWER))) in side.data_to_send()


def test_explicitly_tagged_external_is_tolerated() -> None:
    value = der(0xA2, der(0x28, bytes.fromhex("020105"), der(0xA0, VALUE)))
    (found,), _ = asked(connect_by_hand(proof(value)))
    assert isinstance(found, AssociateInd)
    assert found.proof == VALUE


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("carrier", ["external", "other"])
def test_both_sides_open(step: int, carrier: Any) -> None:
    pair = Pair.make(replace(INITIATOR, a_profile_carrier=carrier), RESPONDER, step)
    pair.transport()
    pair.initiator.associate(INITIATE, VALUE)
    (request,) = pair.to_responder()
    assert isinstance(request, AssociateInd)
    assert request.proof == VALUE
    pair.responder.accept(INITIATE_RESPONSE, ANSWER)
    (answer,) = pair.to_initiator()
    assert isinstance(answer, AssociateCnf)
    assert (answer.result, answer.proof, answer.user_data) == ("accepted", ANSWER, INITIATE_RESPONSE)


# --- what is refused, and how -----------------------------------------------------------------------------------------
REJECTED: dict[str, tuple[bytes, int]] = {
    "nothing at all": (b"", 12),
    "no mechanism-name": (bytes.fromhex("8a020780") + der(0xAC, EXTERNAL), 12),
    "password": (bytes.fromhex("8a0207808b03520301ac06800474657374"), 11),
    "older mechanism": (proof(mechanism=bytes.fromhex("520302")), 11),
    "stripped value": (bytes.fromhex("8a020780") + der(0x8B, MECHANISM), 14),
    "requirements without the bit": (proof(requirements="8a020640"), 14),
    "no requirements": (der(0x8B, MECHANISM) + der(0xAC, EXTERNAL), 14),
}


@pytest.mark.parametrize("name", REJECTED)
def test_rejected_permanent(name: str) -> None:
    """AARE in CPR: rejected-permanent with the diagnostic that says what is missing."""
    fields, diagnostic = REJECTED[name]
    (found,), side = asked(connect_by_hand(fields))
    assert isinstance(found, EnvFault)
    assert found.mnemonic == "AUTH_MECH_NOT_USED_RQ"
    octets = side.data_to_send()
    assert bytes.fromhex("a203020101a305a1030201") + bytes((diagnostic,)) in octets
    assert side.closed


ABORTED: dict[str, tuple[bytes, str]] = {
    "charstring": (proof(der(0x80, b"test")), "AUTH_MECH_NOT_USED_RQ"),
    "other of another mechanism": (proof(der(0xA3, bytes.fromhex("0603520301"), VALUE)), "AUTH_MECH_NOT_USED_RQ"),
}
FAULTY: dict[str, tuple[bytes, str]] = {
    "external elsewhere": (proof(der(0xA2, bytes.fromhex("020103"), der(0xA0, VALUE))), "OSI_INV_INDR_REF"),
    "external without a value": (proof(der(0xA2, bytes.fromhex("020105"))), "ACSE_PROT_ERR"),
    "two values": (proof(der(0xA2, bytes.fromhex("020105"), der(0xA0, VALUE, VALUE))), "ACSE_PROT_ERR"),
    "no octets": (proof(der(0xA2, bytes.fromhex("0201058100"))), "ACSE_PROT_ERR"),
    "other without a value": (proof(der(0xA3, der(0x06, MECHANISM))), "ACSE_PROT_ERR"),
    "empty": (proof(der(0xA2)), "ACSE_PROT_ERR"),
}


@pytest.mark.parametrize("name", ABORTED)
def test_an_unusable_alternative_is_answered_by_p_abort(name: str) -> None:
    fields, mnemonic = ABORTED[name]
    (found,), side = asked(connect_by_hand(fields))
    assert isinstance(found, EnvFault)
    assert found.mnemonic == mnemonic
    assert p_abort(side.data_to_send())


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_authentication_value(name: str) -> None:
    fields, mnemonic = FAULTY[name]
    (found,), side = asked(connect_by_hand(fields))
    assert isinstance(found, EnvFault)
    assert found.mnemonic == mnemonic
    assert side.data_to_send()[7] == 0x19  # an ABORT
    assert side.closed


def test_every_truncation_of_the_fields() -> None:
    """However a length inside is wrong, it ends; nothing but a whole value is ever handed up."""
    whole = proof(der(0xA2, bytes.fromhex("020105"), der(0xA0, der(0xA0, der(0x80, b"c")))))
    for size in range(len(whole)):
        found, side = asked(connect_by_hand(whole[:size]))
        assert all(isinstance(entry, EnvFault) for entry in found), size
        assert side.closed


def test_another_application_context() -> None:
    field_context = connect_by_hand(proof()).replace(BASIC_AC, bytes.fromhex("a107060528ca220101"))
    (found,), side = asked(field_context)
    assert isinstance(found, EnvFault)
    assert found.mnemonic == "INV_APPL_CNTX_RQ"
    assert bytes.fromhex("a203020101a305a103020102") in side.data_to_send()


def test_p_abort_on_request() -> None:
    _, side = asked(connect_by_hand(proof()))
    side.provider_abort()
    assert p_abort(side.data_to_send())
    assert side.closed


def test_p_abort_as_the_other_side_sees_it() -> None:
    pair = Pair.make(INITIATOR, RESPONDER)
    pair.transport()
    pair.initiator.associate(INITIATE, VALUE)
    pair.to_responder()
    pair.responder.provider_abort()
    (found,) = pair.to_initiator()
    assert found == ProviderAbort("presentation aborted: reason not specified")


def responded(fields: bytes, *, contexts: str = "accepted") -> tuple[list[Any], OsiEndpoint]:
    """An initiator that asked, and got an accepting AARE made by hand with these authentication fields."""
    pair = Pair.make(INITIATOR, RESPONDER)
    pair.transport()
    pair.initiator.associate(INITIATE, VALUE)
    pair.to_responder()
    information = der(0xBE, der(0x28, bytes.fromhex("020103"), der(0xA0, INITIATE_RESPONSE)))
    aare = der(0x61, BASIC_AC, bytes.fromhex("a203020100a305a103020100"), fields, information)
    accepted = bytes.fromhex("300780010081025101")
    third = accepted if contexts == "accepted" else bytes.fromhex("3006800102820101")
    user_data = der(0x61, der(0x30, bytes.fromhex("020101"), der(0xA0, aare)))
    cpa = der(0x31, bytes.fromhex("a003800101"), der(0xA2, der(0xA5, accepted, accepted, third), user_data))
    header = bytes.fromhex("050613010016010214020002")
    found = take(pair.initiator, tpkt(session_item(0x0E, header + session_item(0xC1, cpa))))
    return found, pair.initiator


def answer(value: bytes, *, mechanism: bytes = MECHANISM, requirements: str = "88020780") -> bytes:
    return bytes.fromhex(requirements) + der(0x89, mechanism) + der(0xAA, value)


@pytest.mark.parametrize("contexts", ["accepted", "rejected"])
def test_an_answer_by_hand_is_taken(contexts: str) -> None:
    """Also where the responder does not accept the presentation context."""
    for value in (der(0xA2, bytes.fromhex("020105"), der(0xA0, ANSWER)), der(0xA3, der(0x06, MECHANISM), ANSWER)):
        (found,), _ = responded(answer(value), contexts=contexts)
        assert isinstance(found, AssociateCnf)
        assert found.proof == ANSWER


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        answer(der(0x80, b"test")),
        answer(der(0xA3, bytes.fromhex("0603520301"), ANSWER)),
        answer(der(0xA2, bytes.fromhex("020105"), der(0xA0, ANSWER)), mechanism=bytes.fromhex("520301")),
        answer(der(0xA2, bytes.fromhex("020105"), der(0xA0, ANSWER)), requirements="88020640"),
        bytes.fromhex("88020780") + der(0x89, MECHANISM),
        # the numbers of an AARQ
        proof(der(0xA2, bytes.fromhex("020105"), der(0xA0, ANSWER))),
    ],
)
def test_a_responder_that_does_not_authenticate_itself(fields: bytes) -> None:
    (found,), side = responded(fields)
    assert isinstance(found, EnvFault)
    assert found.mnemonic == "AUTH_MECH_NOT_USED_ABT"
    assert p_abort(side.data_to_send())


# --- nothing falls back -----------------------------------------------------------------------------------------------
def test_other_modes_do_not_meet() -> None:
    (found,), side = asked(connect_by_hand(proof()), SECURE_RESPONDER)
    assert isinstance(found, EnvFault)
    assert found.mnemonic == "INV_APPL_CNTX_RQ"
    assert side.closed
    plain = Pair.make(PLAIN_INITIATOR, RESPONDER)
    (found,) = plain.request(INITIATE)
    assert isinstance(found, EnvFault)
    (refused,) = plain.to_initiator()
    assert isinstance(refused, AssociateCnf)
    assert (refused.result, refused.diagnostic) == ("rejected-permanent", 12)
    unproved = Pair.make(INITIATOR, PLAIN_RESPONDER)  # a plain peer ignores what it does not know
    unproved.transport()
    unproved.initiator.associate(INITIATE, VALUE)
    unproved.to_responder()
    unproved.responder.accept(INITIATE_RESPONSE)
    (found,) = unproved.to_initiator()
    assert isinstance(found, EnvFault)
    (aborted,) = unproved.to_responder()
    assert isinstance(aborted, ProviderAbort | AbortInd)


def test_parameters_that_do_not_go_together() -> None:
    for change in ({"password": b"x"}, {"application_context": "1.0.9506.1.1"}, {"a_profile_carrier": "bitstring"}):
        with pytest.raises(ConfigError):
            replace(INITIATOR, **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        OsiParams(security=True, a_profile=True, local=CALLING, remote=CALLED)


def test_calls_that_do_not_go_together() -> None:
    pair = Pair.make(INITIATOR, RESPONDER)
    pair.transport()
    with pytest.raises(LocalError):
        pair.initiator.associate(INITIATE)
    plain = Pair.make(PLAIN_INITIATOR, PLAIN_RESPONDER)
    plain.transport()
    with pytest.raises(LocalError):
        plain.initiator.associate(INITIATE, VALUE)
    _, side = asked(connect_by_hand(proof()))
    with pytest.raises(LocalError):
        side.accept(INITIATE_RESPONSE)


def test_what_does_not_fit_is_said() -> None:
    pair = Pair.make(INITIATOR, RESPONDER)
    pair.transport()
    large = der(0xA0, der(0x80, bytes(8192)), der(0x81, b"20260921141320."), der(0x82, bytes(512)))
    pair.initiator.associate(INITIATE, large)
    assert isinstance(pair.to_responder()[0], AssociateInd)
    again = Pair.make(INITIATOR, RESPONDER)
    again.transport()
    with pytest.raises(LimitReached, match="authentication-value has"):
        again.initiator.associate(der(0xA8, bytes(2000)), large)


# --- tshark -----------------------------------------------------------------------------------------------------------
def opened(carrier: Any) -> Pair:
    pair = Pair.make(replace(INITIATOR, a_profile_carrier=carrier), RESPONDER)
    pair.transport()
    pair.initiator.associate(INITIATE, VALUE)
    pair.to_responder()
    pair.responder.accept(INITIATE_RESPONSE, ANSWER)
    pair.to_initiator()
    pair.initiator.release()
    pair.to_responder()
    pair.responder.release_response()
    pair.to_initiator()
    return pair


def refused() -> Pair:
    pair = Pair.make(PLAIN_INITIATOR, RESPONDER)
    pair.request(INITIATE)
    pair.to_initiator()
    return pair


def aborted() -> Pair:
    pair = Pair.make(INITIATOR, RESPONDER)
    pair.transport()
    pair.initiator.associate(INITIATE, VALUE)
    pair.to_responder()
    pair.responder.provider_abort()
    pair.to_initiator()
    return pair


CONVERSATIONS: dict[str, tuple[Any, list[str]]] = {
    "external": (
        lambda: opened("external"),
        [
            "aSO-context-name: 1.0.9506.2.3 (MMS)",
            "abstract-syntax-name: 1.0.840.0.1.1.4.1",
            "sender-acse-requirements: 80",
            "mechanism-name: 1.0.840.0.1.0.1.1",
            "calling-authentication-value: external (2)",
            "responder-acse-requirements: 80",
            "responding-authentication-value: external (2)",
            "initiate-RequestPDU",
            "initiate-ResponsePDU",
            "result: accepted (0)",
        ],
    ),
    "other": (
        lambda: opened("other"),
        ["calling-authentication-value: other (3)", "other-mechanism-name: 1.0.840.0.1.0.1.1"],
    ),
    "refused": (refused, ["rejected-permanent (1)", "authentication-mechanism-name-required (12)"]),
    "aborted": (aborted, ["ABORT (AB) SPDU", "arp-ppdu", "provider-reason: reason-not-specified (0)"]),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tshark_reads_it(name: str, tmp_path: Path) -> None:
    run, wanted = CONVERSATIONS[name]
    path = tmp_path / f"{name}.pcap"
    pcap.write(path, run().log)
    packets = pcap.dissect(path)
    assert packets
    for packet in packets:
        assert not packet.malformed, packet
        # No dissector is registered for mmsAuthenticationAS; everything else tshark knows.
        assert all("issector" in text for text in packet.complaints), packet
    text = pcap.text(path)
    assert "Malformed" not in text
    for phrase in wanted:
        assert phrase in text, phrase
