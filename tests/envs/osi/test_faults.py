"""Each event of group 15 has a peer that causes it; and what such a peer is answered (62351-4 §9)."""

from __future__ import annotations

from dataclasses import replace

import pytest

import event_record
from envs.osi.support import (
    ACCEPTANCE,
    APPL_REJECT,
    CALLED,
    CALLING,
    INITIATE,
    INITIATE_RESPONSE,
    PLAIN_INITIATOR,
    PLAIN_RESPONDER,
    RELEASE,
    REQUEST,
    SEC_REJECT,
    SECURE_INITIATOR,
    SECURE_RESPONDER,
    Pair,
    doctored,
    take,
)
from fastsec import events, profile
from fastsec._core.cursor import tlv
from fastsec.envs.osi import (
    AbortInd,
    AeTitle,
    AssociateCnf,
    AssociateInd,
    DataInd,
    EnvFault,
    Indication,
    OsiParams,
    ProviderAbort,
    ReleaseCnf,
    ReleaseInd,
    acse,
    presentation,
    session,
)
from fastsec.envs.osi.states import State

NAME = tlv(0x30, b"")


def only_fault(found: list[Indication], mnemonic: str) -> None:
    assert len(found) == 1
    fault = found[0]
    assert isinstance(fault, EnvFault)
    assert fault.mnemonic == mnemonic
    assert fault.text
    event_record.note(mnemonic)  # the engine raises it under this name


def fields(
    context: str = profile.OID_E2E_MMS_AC,
    called: AeTitle = CALLED.title,
    calling: AeTitle = CALLING.title,
    password: bytes | None = None,
) -> bytes:
    return acse.aarq_fields(context, called, calling, password)


def answer(context: str = profile.OID_E2E_MMS_AC, responding: AeTitle = CALLED.title, **more: bool) -> bytes:
    return acse.aare_fields(context, responding, acse.OUTCOME_ACCEPTED, **more)


REQUESTS = [
    ("INV_APPL_CNTX_RQ", fields(profile.OID_MMS_AC)),  # basic-AC at a secured server
    ("INV_APPL_CNTX_RQ", fields(profile.OID_MMS_AC_FIELD)),
    ("INV_APPL_CNTX_RQ", fields("1.2.3")),
    ("INV_CALLING_AP_TITLE_RQ", fields(calling=AeTitle(None, 12))),
    ("INV_CALLING_AP_TITLE_RQ", fields(calling=AeTitle(NAME, 12))),
    ("INV_CALLING_AE_QUAL_RQ", fields(calling=AeTitle("1.1.1.999"))),
    ("INV_CALLING_AE_QUAL_RQ", fields(calling=AeTitle("1.1.1.999", tlv(0x31, b"")))),
    ("INV_CALLED_AP_TITLE_RQ", fields(called=AeTitle("1.1.1.999.2", 12))),
    ("INV_CALLED_AP_TITLE_RQ", fields(called=AeTitle(NAME, 12))),
    ("INV_CALLED_AE_QUAL_RQ", fields(called=AeTitle("1.1.1.999.1", 13))),
    ("AUTH_MECH_NOT_USED_RQ", fields(password=b"x")),
    ("AUTH_MECH_NOT_USED_RQ", fields() + bytes.fromhex("8a020780")),
    ("AUTH_MECH_NOT_USED_RQ", fields() + bytes.fromhex("8b03520301")),
    ("AUTH_MECH_NOT_USED_RQ", fields() + bytes.fromhex("ac03800178")),
    ("ACSE_PROT_ERR", fields() + fields()),
    ("ACSE_PROT_ERR", bytes.fromhex("80020640") + fields()),
    ("ACSE_PROT_ERR", b""),
]


@pytest.mark.parametrize(("mnemonic", "encoded"), event_record.marked(REQUESTS, lambda case: [case[0]]))
def test_secured_responder_aborts_a_bad_request(mnemonic: str, encoded: bytes) -> None:
    pair = Pair.make(doctored(SECURE_INITIATOR, aarq_fields=encoded), SECURE_RESPONDER)
    only_fault(pair.request(REQUEST), mnemonic)
    assert pair.responder.closed
    assert pair.to_initiator() == [AbortInd("user", None)]


RESPONSES = [
    ("INV_APPL_CNTX_RE", answer(profile.OID_MMS_AC)),
    ("INV_CALLING_AP_TITLE_RE", answer(responding=AeTitle(None, 12))),
    ("INV_CALLING_AP_TITLE_RE", answer(responding=AeTitle(NAME, 12))),
    ("INV_CALLING_AE_QUAL_RE", answer(responding=AeTitle("1.1.1.999.1"))),
    ("INV_CALLING_AE_QUAL_RE", answer(responding=AeTitle("1.1.1.999.1", tlv(0x31, b"")))),
    ("AUTH_MECH_NOT_USED_ABT", answer(authenticated=True)),
    ("AUTH_MECH_NOT_USED_ABT", answer() + bytes.fromhex("8903520301")),
    ("AUTH_MECH_NOT_USED_ABT", answer() + bytes.fromhex("aa03800178")),
    ("ACSE_PROT_ERR", answer() + answer()),
    ("ACSE_PROT_ERR", b""),
]


@pytest.mark.parametrize(("mnemonic", "encoded"), event_record.marked(RESPONSES, lambda case: [case[0]]))
def test_secured_initiator_aborts_on_a_bad_response(mnemonic: str, encoded: bytes) -> None:
    pair = Pair.make(SECURE_INITIATOR, doctored(SECURE_RESPONDER, aare_fields=encoded))
    pair.request(REQUEST)
    pair.responder.accept(ACCEPTANCE)
    only_fault(pair.to_initiator(), mnemonic)
    assert pair.initiator.closed
    assert pair.to_responder() == [AbortInd("user", None)]


REJECTIONS = [
    (1, acse.CONTEXT_NOT_SUPPORTED, "INV_APPL_CNTX_RE"),
    (1, acse.CALLING_AP_TITLE, "INV_CALLING_AP_TITLE_RE"),
    (1, acse.CALLING_AE_QUALIFIER, "INV_CALLING_AE_QUAL_RE"),
    (1, acse.CALLED_AP_TITLE, "INV_CALLED_AP_TITLE_RE"),
    (1, acse.CALLED_AE_QUALIFIER, "INV_CALLED_AE_QUAL_RE"),
    (1, acse.MECHANISM_NOT_RECOGNIZED, "AUTH_MECH_NOT_USED_ABT"),
    (1, acse.MECHANISM_REQUIRED, "AUTH_MECH_NOT_USED_ABT"),
    (1, acse.AUTHENTICATION_FAILURE, "AUTH_MECH_NOT_USED_ABT"),
    (1, acse.AUTHENTICATION_REQUIRED, "AUTH_MECH_NOT_USED_ABT"),
    (1, acse.NO_REASON, "ACSE_PROT_ERR"),
    (2, acse.NO_COMMON_VERSION, "ACSE_PROT_ERR"),
    (2, acse.CALLING_AP_TITLE, "ACSE_PROT_ERR"),
]


@pytest.mark.parametrize(("source", "diagnostic", "mnemonic"), event_record.marked(REJECTIONS, lambda case: [case[2]]))
@pytest.mark.parametrize("in_refuse", [True, False])
def test_rejection_below_end_to_end_security(source: int, diagnostic: int, mnemonic: str, in_refuse: bool) -> None:
    """Such a rejection has no SecPDU; it is not answered, for no association came to be."""
    pair = Pair.secure()
    pair.request(REQUEST)
    aare = acse.encode_aare(acse.aare_fields(profile.OID_MMS_AC, AeTitle(), (1, source, diagnostic)), None)
    if in_refuse:
        tsdu = session.encode_refuse(2, presentation.encode_refuse(None, (0, 0, 0), (1, aare)))
    else:
        tsdu = session.encode_accept(None, presentation.encode_accept(None, (0, 0, 0), 1, aare))
    only_fault(take(pair.initiator, pair.responder.channel.frame(tsdu)), mnemonic)
    assert pair.initiator.closed
    assert pair.initiator.data_to_send() == b""


@pytest.mark.parametrize(
    ("result", "user_data"), [(1, ACCEPTANCE), (2, ACCEPTANCE), (0, APPL_REJECT), (0, SEC_REJECT), (2, SEC_REJECT)]
)
def test_result_that_contradicts_the_secpdu(result: int, user_data: bytes) -> None:
    pair = Pair.secure()
    pair.request(REQUEST)
    outcome = (result, acse.SOURCE_USER, int(result != 0))
    aare = acse.encode_aare(acse.aare_fields(profile.OID_E2E_MMS_AC, CALLED.title, outcome), (5, user_data))
    tsdu = session.encode_accept(None, presentation.encode_accept(None, (0, 0, 0), 1, aare))
    only_fault(take(pair.initiator, pair.responder.channel.frame(tsdu)), "ACSE_PROT_ERR")
    assert pair.initiator.closed


def test_a_secpdu_of_no_known_alternative_is_the_engines_business() -> None:
    pair = Pair.secure()
    pair.request(REQUEST)
    pair.responder.accept(bytes.fromhex("a500"))
    (confirmation,) = pair.to_initiator()
    assert isinstance(confirmation, AssociateCnf)
    assert confirmation.user_data == bytes.fromhex("a500")


def deliver(pair: Pair, to: str, tsdu: bytes) -> list[Indication]:
    side = getattr(pair, to)
    return take(side, side.channel.frame(tsdu))


def crafted_request(contexts: tuple[tuple[int, str], ...], acse_context: int, data_context: int) -> bytes:
    aarq = acse.encode_aarq(fields(), data_context, REQUEST)
    header = presentation.connect_header(None, None, contexts)
    return session.encode_connect(
        session.connect_header(None, None), presentation.encode_connect(header, acse_context, aarq)
    )


OFFERED = SECURE_INITIATOR.contexts_offered


CONTEXTS = [
    (OFFERED, 1, 3, "OSI_INV_INDR_REF"),
    (OFFERED, 1, 1, "OSI_INV_INDR_REF"),
    (OFFERED, 1, 7, "OSI_INV_INDR_REF"),
    (OFFERED, 3, 5, "OSI_INV_PCI"),
    (OFFERED, 9, 5, "OSI_INV_PCI"),
    (OFFERED[:2], 1, 5, "OSI_ENV_PROT_ERR"),  # no e2eSecurityAS
    (OFFERED[1:], 1, 5, "OSI_ENV_PROT_ERR"),  # no ACSE
]


@pytest.mark.parametrize(
    ("contexts", "acse_context", "data_context", "mnemonic"),
    event_record.marked(CONTEXTS, lambda case: [case[3]]),
)
def test_wrong_contexts_in_a_request(
    contexts: tuple[tuple[int, str], ...], acse_context: int, data_context: int, mnemonic: str
) -> None:
    pair = Pair.secure()
    pair.transport()
    only_fault(deliver(pair, "responder", crafted_request(contexts, acse_context, data_context)), mnemonic)
    assert pair.responder.closed
    pair.initiator.associate(REQUEST)
    assert pair.to_initiator() == [AbortInd("user", None)]


def test_contexts_are_known_by_their_syntax_and_not_by_their_number() -> None:
    pair = Pair.secure()
    pair.transport()
    contexts = ((9, profile.OID_E2E_SECURITY_AS), (11, "1.2.3"), (127, profile.OID_ACSE_AS))
    (indication,) = deliver(pair, "responder", crafted_request(contexts, 127, 9))
    assert isinstance(indication, AssociateInd)
    assert (pair.responder.e2e_context_id, pair.responder.mms_context_id) == (9, None)
    pair.responder.accept(ACCEPTANCE)
    octets = pair.responder.data_to_send()
    # result list: accepted, refused by the provider, accepted
    assert bytes.fromhex("a51a 30078001008102510130068001028201013007800100810251 01") in octets


def test_a_syntax_proposed_twice_goes_by_its_first_number() -> None:
    pair = Pair.secure()
    pair.transport()
    contexts = (*OFFERED, *((number + 8, syntax) for number, syntax in OFFERED))
    assert [type(each) for each in deliver(pair, "responder", crafted_request(contexts, 1, 5))] == [AssociateInd]
    assert (pair.responder.data_context_id, pair.responder.mms_context_id) == (5, 3)
    pair = Pair.secure()
    pair.transport()
    only_fault(deliver(pair, "responder", crafted_request(contexts, 9, 5)), "OSI_INV_PCI")


def test_acse_apdu_must_come_alone() -> None:
    value = tlv(0x30, b"\x02\x01\x01" + tlv(0xA0, acse.encode_aarq(fields(), 5, REQUEST)))
    for user_data in (tlv(0x61, value * 2), b""):
        cp = tlv(0x31, b"\xa0\x03\x80\x01\x01" + tlv(0xA2, SECURE_INITIATOR.cp_header + user_data))
        pair = Pair.secure()
        pair.transport()
        found = deliver(pair, "responder", session.encode_connect(SECURE_INITIATOR.cn_header, cp))
        only_fault(found, "OSI_ENV_PROT_ERR")


def test_transport_class_other_than_0() -> None:
    pair = Pair.secure()
    pair.initiator.connect_transport()
    pair.initiator.data_to_send()
    only_fault(take(pair.responder, bytes.fromhex("0300000b06e000000009 40")), "OSI_ENV_PROT_ERR")
    assert pair.to_initiator() == [ProviderAbort("transport refused: negotiation failed")]
    pair = Pair.secure()
    pair.initiator.connect_transport()
    only_fault(take(pair.initiator, bytes.fromhex("0300000b06d000010009 40")), "OSI_ENV_PROT_ERR")
    assert pair.initiator.closed


@pytest.mark.parametrize("results", [(0, 0, 2), (0, 0, 1), (2, 0, 0), (0, 0), (0, 0, 0, 0), ()])
def test_contexts_that_the_responder_does_not_accept(results: tuple[int, ...]) -> None:
    pair = Pair.secure()
    pair.request(REQUEST)
    aare = acse.encode_aare(answer(), (5, ACCEPTANCE))
    tsdu = session.encode_accept(None, presentation.encode_accept(None, results, 1, aare))
    only_fault(deliver(pair, "initiator", tsdu), "OSI_ENV_PROT_ERR")
    assert pair.to_responder() == [AbortInd("user", None)]


def test_secured_initiator_can_do_without_the_mms_context() -> None:
    pair = Pair.secure()
    pair.request(REQUEST)
    aare = acse.encode_aare(answer(), (5, ACCEPTANCE))
    tsdu = session.encode_accept(None, presentation.encode_accept(None, (0, 2, 0), 1, aare))
    assert [type(each) for each in deliver(pair, "initiator", tsdu)] == [AssociateCnf]
    assert pair.initiator.mms_context_id is None


@pytest.mark.parametrize("context", [3, 1, 9])
@pytest.mark.parametrize("to", ["initiator", "responder"])
def test_unprotected_or_stray_data_in_a_secured_association(context: int, to: str) -> None:
    """MMS in its own context is what an attacker would try: it is never delivered."""
    pair = Pair.secure().associate()
    tsdu = session.encode_data(presentation.user_data(context, INITIATE))
    only_fault(deliver(pair, to, tsdu), "OSI_INV_PCI")
    other = pair.to_responder() if to == "initiator" else pair.to_initiator()
    assert other == [AbortInd("user", None)]


def test_protected_data_behind_unprotected_is_not_delivered_either() -> None:
    pair = Pair.secure().associate()
    values = tlv(0x30, b"\x02\x01\x05" + tlv(0xA0, b"\x05\x00")) + tlv(0x30, b"\x02\x01\x03" + tlv(0xA0, b"\x05\x00"))
    only_fault(deliver(pair, "responder", session.encode_data(tlv(0x61, values))), "OSI_INV_PCI")


def test_several_data_values_in_one_ppdu() -> None:
    pair = Pair.secure().associate()
    values = tlv(0x30, b"\x02\x01\x05" + tlv(0xA0, b"\x05\x00")) + tlv(0x30, b"\x02\x01\x05" + b"\x81\x02\xa0\x00")
    found = deliver(pair, "responder", session.encode_data(tlv(0x61, values)))
    assert found == [DataInd(5, b"\x05\x00"), DataInd(5, b"\xa0\x00")]


def information(value: str) -> bytes:
    return tlv(0xBE, tlv(0x28, bytes.fromhex(value)))


@pytest.mark.parametrize(
    ("value", "mnemonic"),
    [
        ("020103a0020500", "OSI_INV_INDR_REF"),
        ("a0020500", "OSI_INV_INDR_REF"),
        ("06025101a0020500", "OSI_INV_INDR_REF"),
        ("0201058100", "ACSE_PROT_ERR"),
        (None, "ACSE_PROT_ERR"),
    ],
)
@pytest.mark.parametrize("carrier", ["AARQ", "AARE", "RLRQ", "RLRE"])
def test_user_information_that_is_missing_or_elsewhere(carrier: str, value: str | None, mnemonic: str) -> None:
    part = b"" if value is None else information(value)
    pair = Pair.secure()
    if carrier == "AARQ":
        pair.transport()
        cp = presentation.encode_connect(SECURE_INITIATOR.cp_header, 1, tlv(0x60, fields() + part))
        to, tsdu = "responder", session.encode_connect(SECURE_INITIATOR.cn_header, cp)
    elif carrier == "AARE":
        pair.request(REQUEST)
        cpa = presentation.encode_accept(None, (0, 0, 0), 1, tlv(0x61, answer() + part))
        to, tsdu = "initiator", session.encode_accept(None, cpa)
    elif carrier == "RLRQ":
        pair.associate()
        to, tsdu = "responder", session.encode_finish(presentation.user_data(1, tlv(0x62, b"\x80\1\0" + part)))
    else:
        pair.associate().initiator.release(RELEASE)
        pair.to_responder()
        to, tsdu = "initiator", session.encode_disconnect(presentation.user_data(1, tlv(0x63, b"\x80\1\0" + part)))
    only_fault(deliver(pair, to, tsdu), mnemonic)
    assert getattr(pair, to).data_to_send()  # an ABRT


def test_abort_with_user_information_elsewhere_is_not_answered() -> None:
    pair = Pair.secure().associate()
    abrt = tlv(0x64, b"\x80\1\0" + information("020103a0020500"))
    only_fault(deliver(pair, "responder", session.encode_abort(presentation.encode_abort(1, abrt))), "OSI_INV_INDR_REF")
    assert pair.responder.closed
    assert pair.responder.data_to_send() == b""


@pytest.mark.parametrize("abort", ["ff", "a0026100", "a00e610c300a020109a0056403800100"])
def test_abort_that_cannot_be_read_is_not_answered(abort: str) -> None:
    pair = Pair.secure().associate()
    found = deliver(pair, "responder", session.encode_abort(bytes.fromhex(abort)))
    assert [type(each) for each in found] == [EnvFault]
    assert pair.responder.data_to_send() == b""


def test_aborts_of_lower_layers() -> None:
    for octets, reason in (
        (b"", "session aborted"),
        (b"\x30\x03\x80\x01\x02", "presentation aborted: unexpected PPDU"),
    ):
        pair = Pair.secure().associate()
        assert deliver(pair, "responder", session.encode_abort(octets)) == [ProviderAbort(reason)]
    pair = Pair.secure().associate()
    assert deliver(pair, "responder", session.encode_abort(bytes.fromhex("a000"))) == [AbortInd("user", None)]
    pair = Pair.secure().associate()
    abort = presentation.encode_abort(1, acse.encode_abort(acse.ABORT_BY_PROVIDER, None))
    assert deliver(pair, "responder", session.encode_abort(abort)) == [AbortInd("provider", None)]


@pytest.mark.parametrize(
    ("tsdu", "answered"),
    [
        ("0d033c0101", "session refused: restriction of the peer's implementation"),  # CDO would follow
        ("0d0505031601 04", "session refused: protocol version not supported"),
        ("0d0414020001", "session refused: restriction of the peer's implementation"),  # half duplex
    ],
)
def test_session_that_cannot_be(tsdu: str, answered: str) -> None:
    pair = Pair.secure()
    pair.transport()
    only_fault(deliver(pair, "responder", bytes.fromhex(tsdu)), "OSI_ENV_PROT_ERR")
    pair.initiator.associate(REQUEST)
    assert pair.to_initiator() == [ProviderAbort(answered)]


def test_presentation_version() -> None:
    pair = Pair.make(
        doctored(SECURE_INITIATOR, cp_header=bytes.fromhex("80020640") + SECURE_INITIATOR.cp_header), SECURE_RESPONDER
    )
    only_fault(pair.request(REQUEST), "OSI_ENV_PROT_ERR")
    assert pair.to_initiator() == [ProviderAbort("presentation refused: protocol version not supported")]


def test_session_version_1_is_answered_in_kind() -> None:
    header = bytes.fromhex("050613010016010114020002")
    pair = Pair.make(doctored(PLAIN_INITIATOR, cn_header=header), PLAIN_RESPONDER)
    pair.request(INITIATE)
    pair.responder.accept(INITIATE_RESPONSE)
    assert bytes.fromhex("160101") in pair.responder.data_to_send()


def test_duplex_not_accepted() -> None:
    pair = Pair.secure()
    pair.request(REQUEST)
    cpa = presentation.encode_accept(None, (0, 0, 0), 1, acse.encode_aare(answer(), (5, ACCEPTANCE)))
    tsdu = session.encode_accept(None, cpa).replace(bytes.fromhex("14020002"), bytes.fromhex("14020001"))
    only_fault(deliver(pair, "initiator", tsdu), "OSI_ENV_PROT_ERR")


@pytest.mark.parametrize(
    ("cpr", "kind"),
    [
        ("3000", ProviderAbort),
        ("30038a0101", ProviderAbort),
        ("31008a0101", EnvFault),
    ],
)
def test_refusals_of_the_presentation_provider(cpr: str, kind: type[Indication]) -> None:
    pair = Pair.secure()
    pair.request(REQUEST)
    found = deliver(pair, "initiator", session.encode_refuse(2, bytes.fromhex(cpr)))
    assert [type(each) for each in found] == [kind]
    assert pair.initiator.closed
    assert pair.initiator.data_to_send() == b""


def test_accepting_aare_in_a_refusal() -> None:
    pair = Pair.secure()
    pair.request(REQUEST)
    aare = acse.encode_aare(answer(), (5, ACCEPTANCE))
    tsdu = session.encode_refuse(2, presentation.encode_refuse(None, (0, 0, 0), (1, aare)))
    only_fault(deliver(pair, "initiator", tsdu), "ACSE_PROT_ERR")
    assert pair.initiator.state is State.CLOSED


@pytest.mark.parametrize("carrier", ["AARQ", "AARE", "RLRQ", "RLRE"])
def test_apdus_where_others_belong(carrier: str) -> None:
    abrt = acse.encode_abort(0, None)
    pair = Pair.secure()
    if carrier == "AARQ":
        pair.transport()
        cp = presentation.encode_connect(SECURE_INITIATOR.cp_header, 1, abrt)
        to, tsdu = "responder", session.encode_connect(SECURE_INITIATOR.cn_header, cp)
    elif carrier == "AARE":
        pair.request(REQUEST)
        to, tsdu = "initiator", session.encode_accept(None, presentation.encode_accept(None, (0, 0, 0), 1, abrt))
    elif carrier == "RLRQ":
        pair.associate()
        rlre = acse.encode_release(acse.TAG_RLRE, (5, RELEASE))
        to, tsdu = "responder", session.encode_finish(presentation.user_data(1, rlre))
    else:
        pair.associate().initiator.release(RELEASE)
        rlrq = acse.encode_release(acse.TAG_RLRQ, (5, RELEASE))
        to, tsdu = "initiator", session.encode_disconnect(presentation.user_data(1, rlrq))
    only_fault(deliver(pair, to, tsdu), "ACSE_PROT_ERR")


def test_plain_peers_of_each_other_mode() -> None:
    """Nothing falls back: plain towards secured and the reverse are refused, each in its own way."""
    pair = Pair.make(PLAIN_INITIATOR, SECURE_RESPONDER)
    only_fault(pair.request(INITIATE), "INV_APPL_CNTX_RQ")
    assert pair.to_initiator() == [AbortInd("user", None)]
    pair = Pair.make(SECURE_INITIATOR, PLAIN_RESPONDER)
    only_fault(pair.request(REQUEST), "INV_APPL_CNTX_RQ")
    only_fault(pair.to_initiator(), "INV_APPL_CNTX_RE")
    assert pair.initiator.data_to_send() == b""


@pytest.mark.parametrize("params", [PLAIN_RESPONDER, replace(PLAIN_RESPONDER, check_called=True)])
def test_plain_responder_needs_no_names(params: OsiParams) -> None:
    encoded = acse.aarq_fields(profile.OID_MMS_AC, AeTitle(), AeTitle(), None)
    pair = Pair.make(doctored(PLAIN_INITIATOR, aarq_fields=encoded), params)
    (indication,) = pair.request(INITIATE)
    assert isinstance(indication, AssociateInd)
    assert (indication.calling, indication.called) == (AeTitle(), AeTitle())


@pytest.mark.parametrize("value", ["06025101a0028000", "060528ca220201a0028000"])
def test_plain_responder_takes_an_external_without_indirect_reference(value: str) -> None:
    pair = Pair.plain()
    pair.transport()
    aarq = tlv(0x60, PLAIN_INITIATOR.aarq_fields + information(value))
    cp = presentation.encode_connect(PLAIN_INITIATOR.cp_header, 1, aarq)
    found = deliver(pair, "responder", session.encode_connect(PLAIN_INITIATOR.cn_header, cp))
    assert [type(each) for each in found] == [AssociateInd]
    pair = Pair.plain()
    pair.transport()
    aarq = tlv(0x60, PLAIN_INITIATOR.aarq_fields + information("06022a03a0028000"))
    cp = presentation.encode_connect(PLAIN_INITIATOR.cp_header, 1, aarq)
    found = deliver(pair, "responder", session.encode_connect(PLAIN_INITIATOR.cn_header, cp))
    only_fault(found, "OSI_INV_INDR_REF")
    # A plain peer is told that the provider ended it.
    pair.initiator.associate(INITIATE)
    pair.initiator.data_to_send()
    assert pair.to_initiator() == [AbortInd("provider", None)]


def test_what_a_plain_peer_in_the_field_leaves_out_or_misplaces() -> None:
    """hat-drivers: FN and DN without presentation and ACSE, an ARU in FN, its abstract syntax as application context.
    With security none of it is taken."""
    plain, secure = Pair.plain().associate(), Pair.secure().associate()
    assert deliver(plain, "responder", bytes.fromhex("0900")) == [ReleaseInd(None)]
    only_fault(deliver(secure, "responder", bytes.fromhex("0900")), "OSI_ENV_PROT_ERR")
    plain, secure = Pair.plain().associate(), Pair.secure().associate()
    plain.initiator.release()
    secure.initiator.release(RELEASE)
    assert deliver(plain, "initiator", bytes.fromhex("0a00")) == [ReleaseCnf(None)]
    only_fault(deliver(secure, "initiator", bytes.fromhex("0a00")), "OSI_ENV_PROT_ERR")
    aru = session.encode_finish(presentation.encode_abort(1, acse.encode_abort(0, None)))
    plain, secure = Pair.plain().associate(), Pair.secure().associate()
    assert deliver(plain, "responder", aru) == [AbortInd("user", None)]
    assert plain.responder.closed
    only_fault(deliver(secure, "responder", aru), "OSI_ENV_PROT_ERR")
    aare = acse.aare_fields(profile.OID_MMS_AS, CALLED.title, acse.OUTCOME_ACCEPTED)
    plain = Pair.make(PLAIN_INITIATOR, doctored(PLAIN_RESPONDER, aare_fields=aare))
    plain.request(INITIATE)
    plain.responder.accept(INITIATE_RESPONSE)
    assert [type(each) for each in plain.to_initiator()] == [AssociateCnf]


def test_every_event_of_group_15_has_its_case() -> None:
    group = {entry.mnemonic for (_, number, _), entry in events.CATALOGUE.items() if number == 15}
    assert len(group) == 16
    cases = (
        {case[0] for case in REQUESTS + RESPONSES} | {case[2] for case in REJECTIONS} | {case[3] for case in CONTEXTS}
    )
    assert cases == group
