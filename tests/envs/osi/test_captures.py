"""Every captured PDU is read, and endpoints hold their own against what captured peers sent."""

from __future__ import annotations

import pytest

from envs.osi.support import (
    CALLED,
    CALLING,
    CAPTURES,
    INITIATE,
    INITIATE_RESPONSE,
    PLAIN_INITIATOR,
    PLAIN_RESPONDER,
    Captured,
    all_captured,
    captured,
    endpoint,
    take,
)
from fastsec._core.tpkt import tpkt
from fastsec.envs.osi import (
    AbortInd,
    AeTitle,
    AssociateCnf,
    AssociateInd,
    DataInd,
    EnvFault,
    OsiParams,
    ReleaseCnf,
    ReleaseInd,
    TransportConnected,
    acse,
    cotp,
    presentation,
    session,
)
from fastsec.errors import DecodeError

ALL = all_captured()


def is_broken(item: Captured) -> bool:
    """What tshark, too, calls malformed or no OSI traffic; tests/captures/README.md says which and why."""
    by_hand = item.file.startswith("iti_")
    return by_hand and (
        item.payload[3:4] == b"\x0e"  # an AC that is one octet short
        or ("cancel" in item.file and not (item.request and item.payload[1] == 0xE0))  # MMS without session
    )


def read_tsdu(tsdu: bytes) -> tuple[session.Spdu, object]:
    spdu = session.decode(tsdu)
    values: tuple[presentation.Pdv, ...]
    if spdu.si == session.SI_CN:
        values = presentation.decode_connect(spdu.user_data).user_data
    elif spdu.si == session.SI_AC:
        values = presentation.decode_accept(spdu.user_data).user_data
    elif spdu.si == session.SI_AB:
        values = presentation.decode_abort(spdu.user_data).user_data
    else:
        values = presentation.decode_user_data(spdu.user_data)
    assert len(values) == 1
    if spdu.si == session.SI_GT_DT:
        assert values[0].context == 3
        return spdu, values[0].value
    assert values[0].context == 1
    return spdu, acse.decode(values[0].value)


def test_there_are_captures() -> None:
    assert len(ALL) == 88
    assert sum(map(is_broken, ALL)) == 9


@pytest.mark.parametrize("item", [item for item in ALL if not is_broken(item)], ids=str)
def test_every_captured_pdu_is_read(item: Captured) -> None:
    if item.payload[1] == 0xF0:
        assert item.payload[:3] == b"\x02\xf0\x80"
        spdu, what = read_tsdu(item.payload[3:])
        assert what
        if isinstance(what, acse.Aarq):
            assert spdu.version == session.VERSION_2
            deviating = item.file == "mms_rs_rejects.pcapng" and item.connection == 0
            assert what.context_name == ("1.0.9506.2.9" if deviating else "1.0.9506.2.3")
            assert what.user_information is not None
            assert what.user_information[0].value[0] == 0xA8
    else:
        tpdu = cotp.decode(item.payload)
        assert isinstance(tpdu, cotp.Connect)
        assert tpdu.class_0
        assert (tpdu.code == cotp.CODE_CR) == item.request


@pytest.mark.parametrize("item", [item for item in ALL if is_broken(item)], ids=str)
def test_broken_captured_pdu_is_a_decode_error(item: Captured) -> None:
    def read() -> None:
        if item.payload[1:2] == b"\xf0":
            read_tsdu(item.payload[3:])
        else:
            cotp.decode(item.payload)

    with pytest.raises(DecodeError):
        read()


@pytest.mark.parametrize("name", sorted(path.stem for path in (CAPTURES / "pdu").glob("*.bin")))
def test_single_pdus_are_those_of_the_capture(name: str) -> None:
    frame = (CAPTURES / "pdu" / f"{name}.bin").read_bytes()
    assert frame[4:] in [item.payload for item in ALL if item.file == "mms_plain.pcapng"]


def frames(name: str, connection: int, request: bool) -> list[bytes]:
    """The frames one side sent."""
    return [tpkt(item.payload) for item in captured(name) if (item.connection, item.request) == (connection, request)]


# Captured requests from which a responder makes an association, with what stands in them.
CONNECTIONS = [
    ("mms_plain.pcapng", 0),
    ("mms_abort.pcapng", 0),
    ("mms_password_ok.pcapng", 0),
    ("mms_rs_rejects.pcapng", 2),
    ("mms_rs_rejects.pcapng", 3),
    ("iti_iec61850_read.pcap", 0),
    ("iti_iec61850_write.pcap", 0),
]


@pytest.mark.parametrize(("name", "connection"), CONNECTIONS)
def test_responder_takes_the_association_of_a_captured_client(name: str, connection: int) -> None:
    side = endpoint("responder", PLAIN_RESPONDER)
    request, connect, *later = frames(name, connection, True)
    assert take(side, request) == [TransportConnected()]
    side.data_to_send()
    found = take(side, connect)
    assert len(found) == 1
    indication = found[0]
    assert isinstance(indication, AssociateInd)
    assert indication.user_data[0] == 0xA8
    if name.startswith("mms"):
        assert indication.calling == AeTitle("1.1.1.999", 12)
        assert indication.called == AeTitle("1.1.1.999.1", 12)
    assert indication.password == (b"test" if "password" in name else None)
    side.accept(INITIATE_RESPONSE)
    kinds = [type(each) for octets in later for each in take(side, octets)]
    if name == "mms_abort.pcapng":
        assert kinds == [DataInd, AbortInd]
    elif name in ("mms_plain.pcapng", "mms_password_ok.pcapng"):
        assert kinds == [DataInd, DataInd, ReleaseInd]
    else:
        assert all(kind is DataInd for kind in kinds)


def test_our_answers_are_those_of_the_captured_server() -> None:
    side = endpoint("responder", OsiParams(security=False))
    request, connect, _, _, release = frames("mms_plain.pcapng", 0, True)
    confirm, accept, _, _, released = frames("mms_plain.pcapng", 0, False)
    take(side, request)
    assert side.data_to_send() == confirm
    take(side, connect)
    side.accept(INITIATE_RESPONSE)
    assert side.data_to_send() == accept
    side.data(bytes.fromhex("8c00"))
    assert side.data_to_send() == (CAPTURES / "pdu/concludersp.bin").read_bytes()
    assert take(side, release) == [ReleaseInd(None)]
    side.release_response()
    # The captured server leaves the reason out.
    assert side.data_to_send() == bytes.fromhex("0300001902f0800a10c10e610c300a020101a0056303800100")
    assert released == (CAPTURES / "pdu/rlre.bin").read_bytes()


@pytest.mark.parametrize("name", ["mms_plain.pcapng", "mms_password_ok.pcapng"])
def test_our_requests_are_those_of_the_captured_client(name: str) -> None:
    password = b"test" if "password" in name else None
    side = endpoint("initiator", OsiParams(security=False, local=CALLING, remote=CALLED, password=password))
    request, connect, _, _, release = frames(name, 0, True)
    confirm, accept, answer, concluded, released = frames(name, 0, False)
    side.connect_transport()
    assert side.data_to_send() == request
    assert take(side, confirm) == [TransportConnected()]
    assert side.tpdu_size == 8192
    side.associate(INITIATE)
    sent = side.data_to_send()
    # The capture has 02 04 80 for the requirements, DER is 02 07 80.
    assert sent == connect.replace(bytes.fromhex("8a020480"), bytes.fromhex("8a020780"))
    found = take(side, accept)
    assert found == [AssociateCnf("accepted", 0, "accepted", INITIATE_RESPONSE, AeTitle())]
    assert take(side, answer) == [DataInd(3, bytes.fromhex("a10e020101a4 09a1078705083f37a4a7"))]
    assert take(side, concluded) == [DataInd(3, bytes.fromhex("8c00"))]
    side.release()
    assert side.data_to_send() == release
    assert take(side, released) == [ReleaseCnf(None)]
    assert side.closed


def test_captured_rejection() -> None:
    side = endpoint("initiator", PLAIN_INITIATOR)
    side.connect_transport()
    confirm, rejection = frames("mms_rs_rejects.pcapng", 3, False)
    take(side, confirm)
    side.associate(INITIATE)
    wanted = AssociateCnf("rejected-permanent", 0, "null", None, AeTitle())
    assert take(side, rejection) == [wanted]
    assert side.closed


def test_captured_abort() -> None:
    side = endpoint("initiator", PLAIN_INITIATOR)
    side.connect_transport()
    confirm, accept, _ = frames("mms_abort.pcapng", 0, False)
    abort = frames("mms_abort.pcapng", 0, True)[-1]
    take(side, confirm)
    side.associate(INITIATE)
    take(side, accept)
    side.data_to_send()
    assert take(side, abort) == [AbortInd("user", None)]
    assert side.closed
    assert side.data_to_send() == b""


def test_our_abort_is_the_captured_one() -> None:
    side = endpoint("initiator", PLAIN_INITIATOR)
    side.connect_transport()
    for octets in frames("mms_abort.pcapng", 0, False)[:2]:
        take(side, octets)
        if side.state.name == "TRANSPORT":
            side.associate(INITIATE)
    side.data_to_send()
    side.abort()
    assert side.data_to_send() == frames("mms_abort.pcapng", 0, True)[-1]


def test_server_made_by_hand() -> None:
    """Its CC has another reference than our CR and is taken; its AC is one octet short and is not."""
    side = endpoint("initiator", PLAIN_INITIATOR)
    side.connect_transport()
    confirm, accept, *_ = frames("iti_iec61850_read.pcap", 0, False)
    assert take(side, confirm) == [TransportConnected()]
    assert side.tpdu_size == 1024
    side.associate(INITIATE)
    found = take(side, accept)
    assert [type(each) for each in found] == [EnvFault]
    assert side.closed


def test_client_with_an_unknown_abstract_syntax_is_rejected() -> None:
    side = endpoint("responder", PLAIN_RESPONDER)
    for octets in frames("mms_rs_rejects.pcapng", 1, True):
        found = take(side, octets)
    assert found == [EnvFault("OSI_ENV_PROT_ERR", "no presentation context for MMS")]
    peer = endpoint("initiator", PLAIN_INITIATOR)
    peer.connect_transport()
    answers = side.data_to_send()
    confirm_size = int.from_bytes(answers[2:4], "big")
    take(peer, answers[:confirm_size])
    peer.associate(INITIATE)
    (rejection,) = take(peer, answers[confirm_size:])
    assert isinstance(rejection, AssociateCnf)
    assert rejection.result == "rejected-permanent"


def test_client_with_an_unknown_application_context_is_rejected() -> None:
    side = endpoint("responder", PLAIN_RESPONDER)
    for octets in frames("mms_rs_rejects.pcapng", 0, True):
        found = take(side, octets)
    assert found == [EnvFault("INV_APPL_CNTX_RQ", "application context 1.0.9506.2.9")]
