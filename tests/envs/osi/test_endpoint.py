"""Initiator against responder in memory, whole and byte by byte."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envs.osi.support import (
    ABORT,
    ACCEPTANCE,
    APPL_REJECT,
    CALLED,
    CALLING,
    CONCLUDE,
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
    endpoint,
    take,
)
from fastsec import profile
from fastsec._core.cursor import tlv
from fastsec._core.osidata import OsiChannel
from fastsec.envs.osi import (
    AbortInd,
    AeTitle,
    AssociateCnf,
    AssociateInd,
    DataInd,
    EnvFault,
    OsiAddress,
    OsiEndpoint,
    OsiParams,
    ProviderAbort,
    ReleaseCnf,
    ReleaseInd,
    TransportConnected,
    connect_room,
    estimate_connect_size,
    session,
)
from fastsec.envs.osi.states import State
from fastsec.errors import ConfigError, LimitReached, LocalError, StateError
from fastsec.limits import OUR_TPDU_SIZE_PREFERRED, SPEC_CONNECT_USER_DATA_MAX

CALLING_NAME = AeTitle("1.1.1.999", 12)
CALLED_NAME = AeTitle("1.1.1.999.1", 12)
STEPS = [0, 1, 7]


@pytest.mark.parametrize("step", STEPS)
def test_secure_association_from_beginning_to_end(step: int) -> None:
    pair = Pair.secure(step)
    pair.initiator.connect_transport()
    assert pair.to_responder() == [TransportConnected()]
    assert pair.to_initiator() == [TransportConnected()]
    pair.initiator.associate(REQUEST)
    assert pair.to_responder() == [AssociateInd(REQUEST, CALLING_NAME, CALLED_NAME, profile.OID_E2E_MMS_AC)]
    pair.responder.accept(ACCEPTANCE)
    assert pair.to_initiator() == [AssociateCnf("accepted", 0, "accepted", ACCEPTANCE, CALLED_NAME)]
    for side in (pair.initiator, pair.responder):
        assert (side.mms_context_id, side.e2e_context_id, side.data_context_id) == (3, 5, 5)
        assert side.tpdu_size == OUR_TPDU_SIZE_PREFERRED
    pair.initiator.data(b"\xa0\x00")
    assert pair.to_responder() == [DataInd(5, b"\xa0\x00")]
    pair.responder.data(b"\xa1\x00")
    assert pair.to_initiator() == [DataInd(5, b"\xa1\x00")]
    pair.initiator.release(RELEASE)
    assert pair.to_responder() == [ReleaseInd(RELEASE)]
    pair.responder.data(b"\xa3\x00")  # what was queued before the answer
    assert pair.to_initiator() == [DataInd(5, b"\xa3\x00")]
    pair.responder.release_response(RELEASE)
    assert pair.responder.closed
    assert pair.to_initiator() == [ReleaseCnf(RELEASE)]
    assert pair.initiator.closed


@pytest.mark.parametrize("step", STEPS)
def test_plain_association_from_beginning_to_end(step: int) -> None:
    pair = Pair.plain(step)
    assert pair.request(INITIATE) == [AssociateInd(INITIATE, CALLING_NAME, CALLED_NAME, profile.OID_MMS_AC)]
    pair.responder.accept(INITIATE_RESPONSE)
    assert pair.to_initiator() == [AssociateCnf("accepted", 0, "accepted", INITIATE_RESPONSE, CALLED_NAME)]
    for side in (pair.initiator, pair.responder):
        assert (side.mms_context_id, side.e2e_context_id, side.data_context_id) == (3, None, 3)
        assert side.tpdu_size == 8192
    pair.initiator.data(CONCLUDE)
    assert pair.to_responder() == [DataInd(3, CONCLUDE)]
    pair.responder.release()
    assert pair.to_initiator() == [ReleaseInd(None)]
    pair.initiator.release_response()
    assert pair.to_responder() == [ReleaseCnf(None)]
    assert pair.initiator.closed
    assert pair.responder.closed


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("size", [128, 1000, 8192])
def test_large_user_data_over_small_tpdus(size: int, step: int) -> None:
    initiator, responder = replace(SECURE_INITIATOR, max_tpdu_size=size), SECURE_RESPONDER
    pair = Pair.make(initiator, responder, step)
    request = tlv(0x30, bytes(9000))
    (indication,) = pair.request(request)
    assert isinstance(indication, AssociateInd)
    assert indication.user_data == request
    assert pair.initiator.tpdu_size == pair.responder.tpdu_size <= size
    acceptance = tlv(0xA0, bytes(30_000))
    pair.responder.accept(acceptance)
    (confirmation,) = pair.to_initiator()
    assert isinstance(confirmation, AssociateCnf)
    assert confirmation.user_data == acceptance
    pdu = tlv(0xA0, bytes(60_000))
    pair.initiator.data(pdu)
    assert pair.to_responder() == [DataInd(5, pdu)]


@pytest.mark.parametrize(
    ("user_data", "permanent", "result"),
    [
        (APPL_REJECT, True, "rejected-permanent"),
        (APPL_REJECT, False, "rejected-transient"),
        (SEC_REJECT, True, "rejected-permanent"),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_secure_rejections(user_data: bytes, permanent: bool, result: str, step: int) -> None:
    pair = Pair.secure(step)
    pair.request(REQUEST)
    pair.responder.reject(user_data, permanent=permanent)
    assert pair.responder.closed
    (confirmation,) = pair.to_initiator()
    assert isinstance(confirmation, AssociateCnf)
    assert (confirmation.result, confirmation.diagnostic, confirmation.user_data) == (result, 1, user_data)
    assert pair.initiator.closed
    assert pair.initiator.data_to_send() == b""


@pytest.mark.parametrize("user_data", [None, bytes.fromhex("aa00")])
def test_plain_rejections(user_data: bytes | None) -> None:
    pair = Pair.plain()
    pair.request(INITIATE)
    pair.responder.reject(user_data, permanent=False, diagnostic=14)
    wanted = AssociateCnf("rejected-transient", 14, "authentication required", user_data, CALLED_NAME)
    assert pair.to_initiator() == [wanted]


# --- password -------------------------------------------------------------------------------------------------------


def test_password_is_asked_for_and_right() -> None:
    pair = Pair.make(replace(PLAIN_INITIATOR, password=b"secret"), replace(PLAIN_RESPONDER, password=b"secret"))
    (indication,) = pair.request(INITIATE)
    assert isinstance(indication, AssociateInd)
    assert (indication.mechanism, indication.password) == (profile.OID_ACSE_PASSWORD, b"secret")
    pair.responder.accept(INITIATE_RESPONSE)
    assert [type(each) for each in pair.to_initiator()] == [AssociateCnf]
    assert pair.initiator.state is State.OPEN


def test_password_that_nobody_asks_for_is_handed_up() -> None:
    pair = Pair.make(replace(PLAIN_INITIATOR, password=b"secret"), PLAIN_RESPONDER)
    (indication,) = pair.request(INITIATE)
    assert isinstance(indication, AssociateInd)
    assert indication.password == b"secret"
    assert "secret" not in repr(indication)
    assert "secret" not in repr(pair.initiator.params)


@pytest.mark.parametrize(("sent", "diagnostic"), [(None, 14), (b"Secret", 13), (b"", 13), (b"secretsecret", 13)])
def test_password_missing_or_wrong(sent: bytes | None, diagnostic: int) -> None:
    pair = Pair.make(replace(PLAIN_INITIATOR, password=sent), replace(PLAIN_RESPONDER, password=b"secret"))
    (fault,) = pair.request(INITIATE)
    assert isinstance(fault, EnvFault)
    assert "ecret" not in fault.text
    (confirmation,) = pair.to_initiator()
    assert isinstance(confirmation, AssociateCnf)
    assert (confirmation.result, confirmation.diagnostic) == ("rejected-permanent", diagnostic)
    assert pair.initiator.closed
    assert pair.responder.closed


@pytest.mark.parametrize(
    ("fields", "diagnostic"), [("ac068004746573 74", 12), ("8b03520302 ac06800474657374", 11), ("8b03520301", 13)]
)
def test_password_with_the_wrong_mechanism(fields: str, diagnostic: int) -> None:
    initiator = doctored(PLAIN_INITIATOR, aarq_fields=PLAIN_INITIATOR.aarq_fields + bytes.fromhex(fields))
    pair = Pair.make(initiator, replace(PLAIN_RESPONDER, password=b"test"))
    (fault,) = pair.request(INITIATE)
    assert isinstance(fault, EnvFault)
    (confirmation,) = pair.to_initiator()
    assert isinstance(confirmation, AssociateCnf)
    assert confirmation.diagnostic == diagnostic


# --- names, contexts, selectors -------------------------------------------------------------------------------------


def test_application_context_of_a_device_in_the_field() -> None:
    pair = Pair.make(replace(PLAIN_INITIATOR, application_context=profile.OID_MMS_AC_FIELD), PLAIN_RESPONDER)
    (indication,) = pair.request(INITIATE)
    assert isinstance(indication, AssociateInd)
    assert indication.application_context == "1.0.9506.1.1"
    pair.responder.accept(INITIATE_RESPONSE)
    assert [type(each) for each in pair.to_initiator()] == [AssociateCnf]


def test_application_context_that_was_configured() -> None:
    own = "1.3.9999.7"
    initiator = replace(PLAIN_INITIATOR, application_context=own)
    assert [type(each) for each in Pair.make(initiator, PLAIN_RESPONDER).request(INITIATE)] == [EnvFault]
    pair = Pair.make(initiator, replace(PLAIN_RESPONDER, application_context=own))
    assert [type(each) for each in pair.request(INITIATE)] == [AssociateInd]
    # It comes beside the usual ones.
    pair = Pair.make(PLAIN_INITIATOR, replace(PLAIN_RESPONDER, application_context=own))
    assert [type(each) for each in pair.request(INITIATE)] == [AssociateInd]
    pair.responder.accept(INITIATE_RESPONSE)
    assert [type(each) for each in pair.to_initiator()] == [AssociateCnf]


def test_names_in_other_forms_and_invocation_identifiers_go_through() -> None:
    name = tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("060355040a0c0141"))))
    calling = OsiAddress(ap_title=name, ae_qualifier=tlv(0x31, b""), ap_invocation_id=5, ae_invocation_id=-6)
    called = OsiAddress(ap_title="1.2.3", ae_qualifier=70_000, ap_invocation_id=2**31 - 1, ae_invocation_id=0)
    pair = Pair.make(OsiParams(security=False, local=calling, remote=called), OsiParams(security=False, local=called))
    (indication,) = pair.request(INITIATE)
    assert isinstance(indication, AssociateInd)
    assert (indication.calling, indication.called) == (calling.title, called.title)
    pair.responder.accept(INITIATE_RESPONSE)
    (confirmation,) = pair.to_initiator()
    assert isinstance(confirmation, AssociateCnf)
    assert confirmation.responding == called.title


def test_addresses_without_selectors_and_names() -> None:
    nothing = OsiAddress(tsel=None, ssel=None, psel=None)
    pair = Pair.make(
        OsiParams(security=False, local=nothing, remote=nothing), OsiParams(security=False, local=nothing)
    ).associate()
    assert pair.initiator.state is State.OPEN
    assert b"\xc1\x02" not in pair.log[0][1]


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({"tsel": b"\0\2"}, "transport refused: address unknown"),
        ({"ssel": b"\0\2"}, "session refused: S-selector unknown"),
        ({"psel": b"\0\0\0\2"}, "presentation refused: called presentation address unknown"),
        ({"tsel": None}, "transport refused: address unknown"),
    ],
)
def test_wrong_selectors_are_refused_where_that_is_configured(changed: dict[str, bytes], answer: str) -> None:
    called = replace(CALLED, **changed)  # type: ignore[arg-type]
    initiator = replace(PLAIN_INITIATOR, remote=called)
    assert Pair.make(initiator, PLAIN_RESPONDER).associate().responder.state is State.OPEN
    pair = Pair.make(initiator, replace(PLAIN_RESPONDER, check_selectors=True))
    pair.initiator.connect_transport()
    found = pair.to_responder()
    confirmed = pair.to_initiator()
    if confirmed == [TransportConnected()]:
        pair.initiator.associate(INITIATE)
        found = pair.to_responder()
        confirmed = pair.to_initiator()
    assert [type(each) for each in found] == [EnvFault]
    assert confirmed == [ProviderAbort(answer)]
    assert pair.initiator.closed
    assert pair.responder.closed


def test_a_selector_that_is_not_configured_lets_all_in() -> None:
    responder = OsiParams(security=False, local=replace(CALLED, ssel=None, psel=None), check_selectors=True)
    initiator = replace(PLAIN_INITIATOR, remote=replace(CALLED, ssel=b"x", psel=b"y"))
    pair = Pair.make(initiator, responder).associate()
    assert pair.initiator.state is State.OPEN
    assert b"\x34\x01x" in pair.log[3][1]  # the responding selectors are those called
    assert b"\x83\x01y" in pair.log[3][1]


@pytest.mark.parametrize(("changed", "diagnostic"), [({"ap_title": "1.1.1.999.2"}, 7), ({"ae_qualifier": 13}, 9)])
def test_wrong_called_name_is_refused_where_that_is_configured(changed: dict[str, str], diagnostic: int) -> None:
    initiator = replace(PLAIN_INITIATOR, remote=replace(CALLED, **changed))  # type: ignore[arg-type]
    assert Pair.make(initiator, PLAIN_RESPONDER).associate().responder.state is State.OPEN
    pair = Pair.make(initiator, replace(PLAIN_RESPONDER, check_called=True))
    (fault,) = pair.request(INITIATE)
    assert isinstance(fault, EnvFault)
    assert fault.mnemonic.startswith("INV_CALLED_A")
    (confirmation,) = pair.to_initiator()
    assert isinstance(confirmation, AssociateCnf)
    assert confirmation.diagnostic == diagnostic


def test_a_name_that_is_not_configured_lets_all_in() -> None:
    for local in (replace(CALLED, ae_qualifier=None), replace(CALLED, ap_title=None)):
        responder = OsiParams(security=False, local=local, check_called=True)
        other = replace(CALLED, ap_title="1.9") if local.ap_title is None else replace(CALLED, ae_qualifier=99)
        pair = Pair.make(replace(PLAIN_INITIATOR, remote=other), responder).associate()
        assert pair.responder.state is State.OPEN


def test_secure_responder_need_not_check_the_called_name() -> None:
    initiator = replace(SECURE_INITIATOR, remote=replace(CALLED, ae_qualifier=13))
    pair = Pair.make(initiator, replace(SECURE_RESPONDER, check_called=False))
    assert [type(each) for each in pair.request(REQUEST)] == [AssociateInd]


# --- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [SECURE_INITIATOR, PLAIN_INITIATOR])
def test_connect_user_data_up_to_the_limit(params: OsiParams) -> None:
    room = connect_room(params)
    responder = SECURE_RESPONDER if params.security else PLAIN_RESPONDER
    pair = Pair.make(params, responder)
    largest = tlv(0x30, bytes(room - 4))
    assert len(largest) == room
    size = estimate_connect_size(params, room)
    assert size.fits
    assert size.total == SPEC_CONNECT_USER_DATA_MAX == size.user_data + size.addresses
    (indication,) = pair.request(largest)
    assert isinstance(indication, AssociateInd)
    assert indication.user_data == largest
    pair = Pair.make(params, responder)
    pair.transport()
    with pytest.raises(LimitReached, match=f"{room + 1} octets where {room} fit") as caught:
        pair.initiator.associate(tlv(0x30, bytes(room - 3)))
    assert caught.value.limit == "SPEC_CONNECT_USER_DATA_MAX"
    assert ("certPath" in str(caught.value)) is params.security
    assert pair.initiator.data_to_send() == b""
    # Nothing was sent: the caller may try again with less.
    pair.initiator.associate(largest)
    assert [type(each) for each in pair.to_responder()] == [AssociateInd]
    assert not estimate_connect_size(params, room + 1).fits


def test_connect_user_data_beyond_the_limit_is_refused_on_input() -> None:
    body = session.connect_header(b"\0\1", b"\0\1") + b"\xc2\xff" + (10_241).to_bytes(2, "big") + bytes(10_241)
    pair = Pair.secure()
    pair.transport()
    found = take(pair.responder, pair.responder.channel.frame(b"\x0d\xff" + len(body).to_bytes(2, "big") + body))
    assert [type(each) for each in found] == [EnvFault]
    pair.initiator.associate(REQUEST)
    pair.initiator.data_to_send()
    assert pair.to_initiator() == [ProviderAbort("session refused: restriction of the peer's implementation")]


# --- release and abort ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("early", [True, False])
def test_release_collision(secure: bool, early: bool) -> None:
    """The initiator of the association answers first, the responder after it got that answer (X.227)."""
    pair = (Pair.secure() if secure else Pair.plain()).associate()
    data = RELEASE if secure else None
    pair.initiator.release(data)
    pair.responder.release(data)
    assert pair.to_responder() == [ReleaseInd(data, collision=True)]
    assert pair.to_initiator() == [ReleaseInd(data, collision=True)]
    if early:
        pair.responder.release_response(data)  # waits
        assert pair.responder.data_to_send() == b""
        assert not pair.responder.closed
        with pytest.raises(StateError):
            pair.responder.release_response(data)
    pair.initiator.release_response(data)
    assert not pair.initiator.closed
    assert pair.to_responder() == [ReleaseCnf(data)]
    if not early:
        assert not pair.responder.closed
        pair.responder.release_response(data)
    assert pair.responder.closed
    assert pair.to_initiator() == [ReleaseCnf(data)]
    assert pair.initiator.closed


def test_release_that_was_being_signed_when_the_peers_came() -> None:
    pair = Pair.secure().associate()
    pair.initiator.release(RELEASE)
    assert pair.to_responder() == [ReleaseInd(RELEASE)]
    pair.responder.release(RELEASE)
    assert pair.to_initiator() == [ReleaseInd(RELEASE, collision=True)]
    pair.responder.release_response(RELEASE)
    pair.initiator.release_response(RELEASE)
    assert pair.to_responder() == [ReleaseCnf(RELEASE)]
    assert pair.to_initiator() == [ReleaseCnf(RELEASE)]
    pair = Pair.plain().associate()
    pair.responder.release()
    pair.to_initiator()
    pair.initiator.release()
    assert pair.initiator.state is State.COLLISION


def test_data_on_its_way_while_releasing_is_delivered() -> None:
    pair = Pair.secure().associate()
    pair.responder.data(b"\xa0\x00")
    pair.initiator.release(RELEASE)
    assert pair.to_initiator() == [DataInd(5, b"\xa0\x00")]
    assert pair.to_responder() == [ReleaseInd(RELEASE)]


def test_secure_release_needs_a_secpdu() -> None:
    pair = Pair.secure().associate()
    with pytest.raises(LocalError):
        pair.initiator.release()
    assert pair.initiator.state is State.OPEN


@pytest.mark.parametrize("user_data", [None, ABORT])
@pytest.mark.parametrize("who", ["initiator", "responder"])
@pytest.mark.parametrize("step", [0, 1])
def test_abort_of_an_association(who: str, user_data: bytes | None, step: int) -> None:
    pair = Pair.secure(step).associate()
    side = pair.initiator if who == "initiator" else pair.responder
    side.abort(user_data)
    assert side.closed
    found = pair.to_responder() if who == "initiator" else pair.to_initiator()
    assert found == [AbortInd("user", user_data)]
    assert pair.initiator.closed
    assert pair.responder.closed
    assert pair.to_initiator() == pair.to_responder() == []


def test_abort_while_waiting_for_the_answer() -> None:
    pair = Pair.secure()
    pair.request(REQUEST)
    pair.initiator.abort()
    assert pair.to_responder() == [AbortInd("user", None)]
    pair = Pair.secure()
    pair.request(REQUEST)
    pair.responder.abort(ABORT)
    assert pair.to_initiator() == [AbortInd("user", ABORT)]


def test_abort_before_there_is_an_association_just_closes() -> None:
    pair = Pair.secure()
    pair.initiator.abort()
    pair.responder.abort()
    assert pair.initiator.closed
    assert pair.responder.closed
    assert pair.initiator.data_to_send() == pair.responder.data_to_send() == b""
    pair = Pair.secure()
    pair.transport()
    pair.initiator.abort()
    assert pair.initiator.data_to_send() == b""
    pair.initiator.abort()  # once more is no fault


def test_plain_abort_carries_data_too() -> None:
    pair = Pair.plain().associate()
    pair.responder.abort(bytes.fromhex("8b00"))
    assert pair.to_initiator() == [AbortInd("user", bytes.fromhex("8b00"))]


# --- configuration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"local": OsiAddress()}, "local AP-title"),
        ({"local": OsiAddress(ap_title="1.2.3")}, "AE-qualifier"),
        ({"local": OsiAddress(ap_title=b"\x30\x00", ae_qualifier=1)}, "OID"),
        ({"password": b"x"}, "password"),
        ({"application_context": profile.OID_MMS_AC}, "application context"),
        ({"max_tpdu_size": 127}, "max_tpdu_size"),
        ({"max_tpdu_size": OUR_TPDU_SIZE_PREFERRED + 1}, "max_tpdu_size"),
    ],
)
def test_parameters_that_cannot_be(fields: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        OsiParams(**{"security": True, "local": CALLING, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"tsel": bytes(33)}, "tsel"),
        ({"ssel": bytes(17)}, "ssel"),
        ({"psel": bytes(17)}, "psel"),
        ({"ap_title": "1.2.x"}, "AP-title"),
    ],
)
def test_addresses_that_cannot_be(fields: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        OsiAddress(**fields)  # type: ignore[arg-type]


def test_secure_initiator_needs_the_name_it_calls() -> None:
    with pytest.raises(ConfigError, match="called"):
        endpoint("initiator", OsiParams(security=True, local=CALLING))


def test_there_are_two_roles() -> None:
    with pytest.raises(LocalError):
        OsiEndpoint("server", PLAIN_RESPONDER, OsiChannel(1000))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["associate", "accept", "reject", "data", "release", "release_response"])
def test_calls_out_of_state(method: str) -> None:
    arguments = () if method in ("release", "release_response") else (REQUEST,)
    for side in (endpoint("initiator", SECURE_INITIATOR), endpoint("responder", SECURE_RESPONDER)):
        with pytest.raises(StateError):
            getattr(side, method)(*arguments)
        side.abort()
        with pytest.raises(StateError):
            getattr(side, method)(*arguments)
    with pytest.raises(StateError):
        endpoint("responder", SECURE_RESPONDER).connect_transport()
