"""hat-drivers, an independent implementation, as oracle: it reads what we write and we read what it writes.

Its encoders are driven directly, in process; talking to it over sockets is the interop tests' part.
"""

from __future__ import annotations

from typing import Any

import pytest
from hat import asn1
from hat.drivers.acse import _encoder as acse_oracle
from hat.drivers.copp import _encoder as copp_oracle
from hat.drivers.cosp import common as hat_cosp
from hat.drivers.cosp.encoder import decode as cosp_decode
from hat.drivers.cosp.encoder import encode as cosp_encode
from hat.drivers.cotp import common as hat_cotp
from hat.drivers.cotp.encoder import decode as cotp_decode
from hat.drivers.cotp.encoder import encode as cotp_encode

from envs.osi.support import INITIATE, INITIATE_RESPONSE, SECURE_INITIATOR
from fastsec import profile
from fastsec.envs.osi import AeTitle, acse, cotp, presentation, session
from fastsec.envs.osi.acse import Authentication, External
from fastsec.envs.osi.presentation import Context, Pdv, Ppdu

VALUE = bytes.fromhex("a003020101")
CONTEXTS = SECURE_INITIATOR.contexts_offered


def oid(dotted: str) -> tuple[int, ...]:
    return tuple(map(int, dotted.split(".")))


def read(oracle: Any, module: str, name: str, octets: bytes) -> Any:
    entity, rest = oracle.decode_entity(memoryview(octets))
    assert not rest
    return oracle.decode_value(asn1.TypeRef(module, name), entity)


def write(oracle: Any, module: str, name: str, value: object) -> bytes:
    return bytes(oracle.encode(asn1.TypeRef(module, name), value))


def read_acse(octets: bytes) -> Any:
    return read(acse_oracle, "ACSE-1", "ACSE-apdu", octets)


def write_acse(kind: str, value: dict[str, object]) -> bytes:
    return write(acse_oracle, "ACSE-1", "ACSE-apdu", (kind, value))


def read_ppdu(name: str, octets: bytes) -> Any:
    return read(copp_oracle, "ISO8823-PRESENTATION", name, octets)


def write_ppdu(name: str, value: object) -> bytes:
    return write(copp_oracle, "ISO8823-PRESENTATION", name, value)


def octets_of(entity: Any) -> bytes:
    return bytes(acse_oracle.encode_entity(entity))


def entity_of(octets: bytes) -> Any:
    return acse_oracle.decode_entity(memoryview(octets))[0]


# --- transport ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("calling", "called"), [(None, None), (1, None), (0, 1), (0xFFFF, 2)])
@pytest.mark.parametrize("size", [None, 128, 2048, 8192])
def test_transport(calling: int | None, called: int | None, size: int | None) -> None:
    def two(selector: int | None) -> bytes | None:
        return None if selector is None else selector.to_bytes(2, "big")

    for theirs, ours in (
        (
            hat_cotp.CR(7, 0, calling, called, size, None),
            cotp.Connect(cotp.CODE_CR, 0, 7, two(calling), two(called), size),
        ),
        (
            hat_cotp.CC(7, 8, 0, calling, called, size, None),
            cotp.Connect(cotp.CODE_CC, 7, 8, two(calling), two(called), size),
        ),
    ):
        assert cotp.decode(bytes(cotp_encode(theirs))) == ours
        assert cotp_decode(memoryview(cotp.encode_connect(ours))) == theirs


def test_preferred_size_disconnect_and_error() -> None:
    ours = cotp.encode_connect(cotp.Connect(cotp.CODE_CR, 0, 7, None, None, 8192, 65408))
    assert cotp_decode(memoryview(ours)) == hat_cotp.CR(7, 0, None, None, 8192, 65408)
    assert cotp_decode(memoryview(cotp.encode_disconnect(5, 6, 128))) == hat_cotp.DR(5, 6, 128)
    assert cotp_decode(memoryview(cotp.encode_error(5, 2))) == hat_cotp.ER(5, 2)
    assert cotp.decode(bytes(cotp_encode(hat_cotp.DR(5, 6, 128)))) == cotp.Disconnect(5, 6, 128)
    assert cotp.decode(bytes(cotp_encode(hat_cotp.ER(5, 2)))) == cotp.Error(5, 2)


# --- session --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 100, 254, 255, 512])
def test_session(size: int) -> None:
    data = bytes(range(256)) * 2
    data = data[:size]
    kinds = hat_cosp.SpduType
    item = {"extended_spdus": False, "version_number": 2, "requirements": b"\x00\x02"}
    theirs = hat_cosp.Spdu(kinds.CN, calling_ssel=1, called_ssel=2, user_data=data, **item)
    ours = session.encode_connect(session.connect_header(b"\0\1", b"\0\2"), data)
    assert cosp_decode(memoryview(ours)) == theirs
    assert session.decode(bytes(cosp_encode(theirs))) == session.decode(ours)
    theirs = hat_cosp.Spdu(kinds.AC, called_ssel=2, user_data=data, **item)
    ours = session.encode_accept(b"\0\2", data)
    assert cosp_decode(memoryview(ours)) == theirs
    assert session.decode(bytes(cosp_encode(theirs))) == session.decode(ours)
    for kind, encode, si in (
        (kinds.FN, session.encode_finish, session.SI_FN),
        (kinds.DN, session.encode_disconnect, session.SI_DN),
        (kinds.AB, session.encode_abort, session.SI_AB),
    ):
        found = cosp_decode(memoryview(encode(data)))
        assert (found.type, bytes(found.user_data)) == (kind, data)
        spdu = session.decode(bytes(cosp_encode(hat_cosp.Spdu(kind, transport_disconnect=True, user_data=data))))
        assert spdu == session.Spdu(si, data, flags=1)
    found = cosp_decode(memoryview(session.encode_data(data)))
    assert (found.type, bytes(found.data)) == (kinds.DT, data)
    sent = bytes(hat_cosp.give_tokens_spdu_bytes) + bytes(cosp_encode(hat_cosp.Spdu(kinds.DT, data=data)))
    assert session.decode(sent) == session.Spdu(session.SI_GT_DT, data)


# --- presentation ---------------------------------------------------------------------------------------------------


def pdv(context: int, octets: bytes) -> tuple[str, list[dict[str, object]]]:
    value = {
        "presentation-context-identifier": context,
        "presentation-data-values": ("single-ASN1-type", entity_of(octets)),
    }
    return "fully-encoded-data", [value]


def check_pdv(user_data: Any, context: int, octets: bytes) -> None:
    kind, values = user_data
    assert kind == "fully-encoded-data"
    (value,) = values
    assert value["presentation-context-identifier"] == context
    alternative, entity = value["presentation-data-values"]
    assert (alternative, octets_of(entity)) == ("single-ASN1-type", octets)


@pytest.mark.parametrize("contexts", [CONTEXTS[:1], CONTEXTS[:2], CONTEXTS, (*CONTEXTS, (99, "1.2.3"))])
def test_presentation_connect(contexts: tuple[tuple[int, str], ...]) -> None:
    ours = presentation.encode_connect(presentation.connect_header(b"\0\1", b"\2", contexts), 1, VALUE)
    found = read_ppdu("CP-type", ours)
    assert found["mode-selector"] == {"mode-value": 1}
    params = found["normal-mode-parameters"]
    assert bytes(params["calling-presentation-selector"]) == b"\0\1"
    assert bytes(params["called-presentation-selector"]) == b"\2"
    listed = [
        {
            "presentation-context-identifier": number,
            "abstract-syntax-name": oid(syntax),
            "transfer-syntax-name-list": [oid(profile.OID_BER)],
        }
        for number, syntax in contexts
    ]
    assert params["presentation-context-definition-list"] == listed
    check_pdv(params["user-data"], 1, VALUE)
    theirs = write_ppdu(
        "CP-type",
        {
            "mode-selector": {"mode-value": 1},
            "normal-mode-parameters": {
                "presentation-context-definition-list": listed,
                "called-presentation-selector": b"\0\0\0\1",
                "user-data": pdv(1, VALUE),
            },
        },
    )
    wanted = tuple(Context(number, syntax, True) for number, syntax in contexts)
    assert presentation.decode_connect(theirs) == Ppdu(None, b"\0\0\0\1", wanted, None, (Pdv(1, VALUE),))


@pytest.mark.parametrize("results", [(0,), (0, 0), (0, 0, 0), (0, 2, 0), (0, 1, 2)])
def test_presentation_answers(results: tuple[int, ...]) -> None:
    listed = [
        {"result": 0, "transfer-syntax-name": oid(profile.OID_BER)}
        if not each
        else {"result": each, "provider-reason": 1}
        for each in results
    ]
    params = {
        "responding-presentation-selector": b"\0\0\0\1",
        "presentation-context-definition-result-list": listed,
        "user-data": pdv(1, VALUE),
    }
    wanted = Ppdu(None, b"\0\0\0\1", (), results, (Pdv(1, VALUE),))
    accept = {"mode-selector": {"mode-value": 1}, "normal-mode-parameters": params}
    assert presentation.decode_accept(write_ppdu("CPA-PPDU", accept)) == wanted
    assert presentation.decode_refuse(write_ppdu("CPR-PPDU", ("normal-mode-parameters", params))) == wanted
    ours = presentation.encode_accept(b"\0\0\0\1", results, 1, VALUE)
    found = read_ppdu("CPA-PPDU", ours)["normal-mode-parameters"]
    assert found["presentation-context-definition-result-list"] == listed
    check_pdv(found["user-data"], 1, VALUE)
    ours = presentation.encode_refuse(b"\0\0\0\1", results, (1, VALUE))
    mode, found = read_ppdu("CPR-PPDU", ours)
    assert mode == "normal-mode-parameters"
    assert found["presentation-context-definition-result-list"] == listed
    check_pdv(found["user-data"], 1, VALUE)
    _, found = read_ppdu("CPR-PPDU", presentation.encode_refuse(None, (), provider_reason=3))
    assert found == {"provider-reason": 3}


def test_presentation_aborts_and_data() -> None:
    kind, (mode, found) = read_ppdu("Abort-type", presentation.encode_abort(1, VALUE))
    assert (kind, mode) == ("aru-ppdu", "normal-mode-parameters")
    check_pdv(found["user-data"], 1, VALUE)
    identifiers = [{"presentation-context-identifier": 1, "transfer-syntax-name": oid(profile.OID_BER)}]
    theirs = {"presentation-context-identifier-list": identifiers, "user-data": pdv(1, VALUE)}
    octets = write_ppdu("Abort-type", ("aru-ppdu", ("normal-mode-parameters", theirs)))
    assert presentation.decode_abort(octets) == presentation.AbortPpdu((Pdv(1, VALUE),))
    octets = write_ppdu("Abort-type", ("arp-ppdu", {"provider-reason": 4, "event-identifier": 2}))
    assert presentation.decode_abort(octets) == presentation.AbortPpdu((), True, 4)
    check_pdv(read_ppdu("User-data", presentation.user_data(127, VALUE)), 127, VALUE)
    assert presentation.decode_user_data(write_ppdu("User-data", pdv(3, VALUE))) == (Pdv(3, VALUE),)
    for alternative, value in (
        ("octet-aligned", VALUE),
        ("arbitrary", [bool(octet >> bit & 1) for octet in VALUE for bit in range(7, -1, -1)]),
    ):
        entry = {
            "transfer-syntax-name": oid(profile.OID_BER),
            "presentation-context-identifier": 3,
            "presentation-data-values": (alternative, value),
        }
        octets = write_ppdu("User-data", ("fully-encoded-data", [entry]))
        assert presentation.decode_user_data(octets) == (Pdv(3, VALUE),)


# --- ACSE -----------------------------------------------------------------------------------------------------------


def information(context: int, octets: bytes, direct: str | None = None) -> list[asn1.External]:
    return [asn1.External(entity_of(octets), None if direct is None else oid(direct), context)]


def check_information(found: Any, context: int, octets: bytes) -> None:
    (external,) = found["user-information"]
    assert (external.direct_ref, external.indirect_ref) == (None, context)
    assert octets_of(external.data) == octets


def test_aarq_that_we_write() -> None:
    called, calling = AeTitle("1.1.1.999.1", 12, 5, -6), AeTitle("1.1.1.999", 70_000)
    octets = acse.encode_aarq(acse.aarq_fields(profile.OID_MMS_AC, called, calling, b"test"), 3, INITIATE)
    kind, found = read_acse(octets)
    assert kind == "aarq"
    check_information(found, 3, INITIATE)
    assert found["application-context-name"] == oid(profile.OID_MMS_AC)
    assert found["called-AP-title"] == ("ap-title-form2", oid("1.1.1.999.1"))
    assert found["called-AE-qualifier"] == ("ae-qualifier-form2", 12)
    assert found["called-AP-invocation-identifier"] == 5
    assert found["called-AE-invocation-identifier"] == -6
    assert found["calling-AP-title"] == ("ap-title-form2", oid("1.1.1.999"))
    assert found["calling-AE-qualifier"] == ("ae-qualifier-form2", 70_000)
    assert list(found["sender-acse-requirements"]) == [True]
    assert found["mechanism-name"] == oid(profile.OID_ACSE_PASSWORD)
    assert found["calling-authentication-value"] == ("charstring", "test")


@pytest.mark.parametrize("direct", [None, profile.OID_BER])
def test_aarq_that_we_read(direct: str | None) -> None:
    theirs: dict[str, object] = {
        "application-context-name": oid(profile.OID_MMS_AC_FIELD),
        "called-AP-title": ("ap-title-form2", oid("1.1.1.999.1")),
        "called-AE-qualifier": ("ae-qualifier-form2", 0),
        "calling-AP-invocation-identifier": 2**31,
        "calling-AE-invocation-identifier": 7,
        "sender-acse-requirements": [True],
        "mechanism-name": oid(profile.OID_ACSE_PASSWORD),
        "calling-authentication-value": ("charstring", "pw"),
        "application-context-name-list": [oid("1.2.3"), oid("1.2.4")],
        "implementation-information": "something",
        "user-information": information(3, INITIATE, direct),
    }
    assert acse.decode(write_acse("aarq", theirs)) == acse.Aarq(
        profile.OID_MMS_AC_FIELD,
        AeTitle("1.1.1.999.1", 0),
        AeTitle(None, None, 2**31, 7),
        Authentication(1, profile.OID_ACSE_PASSWORD, b"\x80\x02pw"),
        (External(direct, 3, INITIATE),),
        True,
    )


@pytest.mark.parametrize(("result", "source", "diagnostic"), [(0, 1, 0), (1, 1, 13), (2, 1, 1), (1, 2, 2)])
def test_aare_both_ways(result: int, source: int, diagnostic: int) -> None:
    responding = AeTitle("1.1.1.999.1", 12, 1, 2)
    fields = acse.aare_fields(profile.OID_MMS_AC, responding, (result, source, diagnostic), authenticated=True)
    octets = acse.encode_aare(fields, (3, INITIATE_RESPONSE))
    kind, found = read_acse(octets)
    assert kind == "aare"
    check_information(found, 3, INITIATE_RESPONSE)
    assert found["result"] == result
    name = {1: "acse-service-user", 2: "acse-service-provider"}[source]
    assert found["result-source-diagnostic"] == (name, diagnostic)
    assert found["responding-AP-title"] == ("ap-title-form2", oid("1.1.1.999.1"))
    assert found["responding-AE-qualifier"] == ("ae-qualifier-form2", 12)
    assert found["responding-AP-invocation-identifier"] == 1
    assert found["responding-AE-invocation-identifier"] == 2
    assert list(found["responder-acse-requirements"]) == [True]
    assert found["mechanism-name"] == oid(profile.OID_ACSE_PASSWORD)
    assert acse.decode(write_acse("aare", found)) == acse.decode(octets)


def test_release_and_abort_both_ways() -> None:
    for kind, tag in (("rlrq", acse.TAG_RLRQ), ("rlre", acse.TAG_RLRE)):
        octets = acse.encode_release(tag, (5, VALUE))
        name, found = read_acse(octets)
        assert (name, found["reason"]) == (kind, 0)
        check_information(found, 5, VALUE)
        assert acse.decode(write_acse(kind, found)) == acse.decode(octets)
        assert acse.decode(write_acse(kind, {})) == acse.Release(tag, None, None)
    octets = acse.encode_abort(acse.ABORT_BY_PROVIDER, (5, VALUE))
    name, found = read_acse(octets)
    assert (name, found["abort-source"]) == ("abrt", 1)
    check_information(found, 5, VALUE)
    assert acse.decode(write_acse("abrt", {"abort-source": 0, "abort-diagnostic": 3})) == acse.Abort(0, 3, None)
