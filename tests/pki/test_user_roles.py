"""IECUserRoles (IEC 62351-8): the structure, its bounds, what of it counts; and the extension in a certificate."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest
from asn1crypto import core
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from engine_pair import CLIENT, authority
from fastsec._core.cursor import Reader, tlv
from fastsec.errors import ConfigError, DecodeError, HandshakeError
from fastsec.pki import builder, oids
from fastsec.pki.certificate import Certificate
from fastsec.pki.roles import (
    OPERATION_ADD,
    OPERATION_CHANGE,
    OPERATION_DELETE,
    RoleGrant,
    RoleSequences,
    RoleTrust,
    UserRoleInfo,
    judge,
    read_user_roles,
    write_user_roles,
)
from fastsec.pki.trial_roles import parse_role, role_infos
from odd_certificates import odd_certificate

# The sample published with FreeIPA's profile of IEC 62351-8.
SAMPLE = bytes.fromhex("302730253004020200ff0c0a4f757473746174696f6e020200ff0c0a49454336323335312d380a0103")
SAMPLE_INFO = UserRoleInfo((255,), "Outstation", 255, "IEC62351-8", OPERATION_CHANGE)


def read(der: bytes) -> tuple[UserRoleInfo, ...]:
    reader = Reader(der)
    found = read_user_roles(reader)
    reader.finish()
    return found


def info(*parts: bytes) -> bytes:
    """IECUserRoles of one UserRoleInfo with these components."""
    return tlv(0x30, tlv(0x30, b"".join(parts)))


ROLES, AOR, REVISION = bytes.fromhex("3003020101"), tlv(0x0C, b"North"), bytes.fromhex("020107")
DEFINITION, OPERATION, SEQUENCE = tlv(0x0C, b"IEC62351-8"), bytes.fromhex("0a0101"), bytes.fromhex("02020400")


# --- the structure ----------------------------------------------------------------------------------------------------


def test_the_published_sample() -> None:
    assert read(SAMPLE) == (SAMPLE_INFO,)
    assert write_user_roles([SAMPLE_INFO]) == SAMPLE


class _Info(core.Sequence):  # type: ignore[misc]
    class _Roles(core.SequenceOf):  # type: ignore[misc]
        _child_spec = core.Integer

    class _Operation(core.Enumerated):  # type: ignore[misc]
        _map = {1: "add", 2: "delete", 3: "change"}  # noqa: RUF012 — as asn1crypto wants it

    _fields = [  # noqa: RUF012
        ("userRole", _Roles),
        ("aor", core.UTF8String, {"optional": True}),
        ("revision", core.Integer),
        ("roleDefinition", core.UTF8String),
        ("operation", _Operation, {"optional": True}),
        ("statusChangeSequenceNumber", core.Integer, {"optional": True}),
    ]


class _Infos(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Info


@given(
    st.lists(
        st.builds(
            UserRoleInfo,
            st.lists(st.integers(-32768, 32767), min_size=1, max_size=16).map(tuple),
            st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
            st.integers(0, 255),
            st.text(st.characters(codec="utf-8"), max_size=23),
            st.none() | st.sampled_from([1, 2, 3]),
            st.none() | st.integers(0, 2**63 - 1),
        ),
        min_size=1,
        max_size=16,
    )
)
def test_what_is_written_is_read_here_and_by_another_parser(infos: list[UserRoleInfo]) -> None:
    der = write_user_roles(infos)
    assert read(der) == tuple(infos)
    other = _Infos.load(der, strict=True).native
    assert [tuple(one["userRole"]) for one in other] == [one.roles for one in infos]
    assert [one["aor"] for one in other] == [one.aor for one in infos]
    assert [one["revision"] for one in other] == [one.revision for one in infos]
    assert [one["roleDefinition"] for one in other] == [one.definition for one in infos]
    names = {None: None, 1: "add", 2: "delete", 3: "change"}
    assert [one["operation"] for one in other] == [names[one.operation] for one in infos]
    assert [one["statusChangeSequenceNumber"] for one in other] == [one.sequence for one in infos]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((ROLES, AOR, REVISION, DEFINITION), UserRoleInfo((1,), "North", 7)),
        ((ROLES, REVISION, DEFINITION), UserRoleInfo((1,), None, 7)),
        ((ROLES, REVISION, tlv(0x0C, b"")), UserRoleInfo((1,), None, 7, "")),
        ((ROLES, AOR, REVISION, DEFINITION, OPERATION), UserRoleInfo((1,), "North", 7, operation=1)),
        ((ROLES, AOR, REVISION, DEFINITION, SEQUENCE), UserRoleInfo((1,), "North", 7, sequence=1024)),
        (
            (ROLES, AOR, REVISION, DEFINITION, OPERATION, SEQUENCE),
            UserRoleInfo((1,), "North", 7, "IEC62351-8", 1, 1024),
        ),
    ],
)
def test_each_form(parts: tuple[bytes, ...], expected: UserRoleInfo) -> None:
    assert read(info(*parts)) == (expected,)


@pytest.mark.parametrize(
    "der",
    {
        "nothing": b"",
        "no info": tlv(0x30, b""),
        "too many infos": tlv(0x30, tlv(0x30, ROLES + REVISION + DEFINITION) * 17),
        "no role": info(tlv(0x30, b""), AOR, REVISION, DEFINITION),
        "too many roles": info(tlv(0x30, b"\x02\x01\x01" * 17), AOR, REVISION, DEFINITION),
        "role too high": info(bytes.fromhex("3005020300 8000"), AOR, REVISION, DEFINITION),
        "role too low": info(bytes.fromhex("30050203ff7fff"), AOR, REVISION, DEFINITION),
        "role not DER": info(bytes.fromhex("300402020001"), AOR, REVISION, DEFINITION),
        "role negative, not DER": info(bytes.fromhex("30040202ffff"), AOR, REVISION, DEFINITION),
        "role of nothing": info(bytes.fromhex("30020200"), AOR, REVISION, DEFINITION),
        "role of another type": info(bytes.fromhex("30030a0101"), AOR, REVISION, DEFINITION),
        "area empty": info(ROLES, tlv(0x0C, b""), REVISION, DEFINITION),
        "area too long": info(ROLES, tlv(0x0C, b"n" * 65), REVISION, DEFINITION),
        "area too long by characters of two octets": info(ROLES, tlv(0x0C, b"\xc3\xa4" * 65), REVISION, DEFINITION),
        "area not UTF-8": info(ROLES, tlv(0x0C, b"\xff"), REVISION, DEFINITION),
        "no revision": info(ROLES, AOR, DEFINITION),
        "revision too high": info(ROLES, AOR, bytes.fromhex("02020100"), DEFINITION),
        "revision negative": info(ROLES, AOR, bytes.fromhex("0201ff"), DEFINITION),
        "no definition": info(ROLES, AOR, REVISION),
        "definition too long": info(ROLES, AOR, REVISION, tlv(0x0C, b"d" * 24)),
        "operation negative": info(ROLES, AOR, REVISION, DEFINITION, bytes.fromhex("0a01ff")),
        "sequence negative": info(ROLES, AOR, REVISION, DEFINITION, bytes.fromhex("0201ff")),
        "sequence too long": info(ROLES, AOR, REVISION, DEFINITION, tlv(0x02, b"\x01" + bytes(8))),
        "sequence before operation": info(ROLES, AOR, REVISION, DEFINITION, SEQUENCE, OPERATION),
        "something after": info(ROLES, AOR, REVISION, DEFINITION, OPERATION, SEQUENCE, b"\x05\x00"),
        "something after all": info(ROLES, AOR, REVISION, DEFINITION) + b"\x05\x00",
        "a set": b"\x31" + info(ROLES, AOR, REVISION, DEFINITION)[1:],
        "cut": info(ROLES, AOR, REVISION, DEFINITION)[:-1],
    }.items(),
    ids=lambda item: item[0],
)
def test_what_is_out_of_bounds_is_refused(der: tuple[str, bytes]) -> None:
    with pytest.raises(DecodeError):
        read(der[1])


@pytest.mark.parametrize(
    "wrong",
    [
        UserRoleInfo((), None),
        UserRoleInfo((40000,), None),
        UserRoleInfo((1,), ""),
        UserRoleInfo((1,), "a" * 65),
        UserRoleInfo((1,), None, 256),
        UserRoleInfo((1,), None, 0, "d" * 24),
        UserRoleInfo((1,), None, None),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_read_is_not_written(wrong: UserRoleInfo) -> None:
    with pytest.raises(ConfigError):
        write_user_roles([wrong])


# --- what counts ------------------------------------------------------------------------------------------------------

PLAIN = UserRoleInfo((1,))


def names(judged: Any) -> list[str]:
    return [finding.mnemonic for finding in judged.findings]


def test_a_plain_grant_counts_by_default() -> None:
    judged = judge([PLAIN], RoleTrust(), "certificate")
    assert judged.grants == (RoleGrant(1, "", 0, "IEC62351-8", "certificate"),)
    assert not judged.findings


@pytest.mark.parametrize(
    ("wrong", "event"),
    [
        (PLAIN._replace(roles=(7,)), "AT_ROLEID_UNKNOWN"),
        (PLAIN._replace(roles=(-1,)), "AT_ROLEID_UNKNOWN"),
        (PLAIN._replace(revision=4), "AT_RV_NR_MISMATCH"),
        (PLAIN._replace(aor="South"), "AT_AOR_UNKNOWN"),
        (PLAIN._replace(aor="north"), "AT_AOR_UNKNOWN"),
        (PLAIN._replace(definition="other"), "AT_ROLEDEF_UNKNOWN"),
        (PLAIN._replace(definition=""), "AT_ROLEDEF_EMPTY"),
        (PLAIN._replace(operation=4), "AT_OP_UNKNOWN"),
        (PLAIN._replace(operation=0), "AT_OP_UNKNOWN"),
    ],
)
def test_what_is_unknown_gives_nothing_and_takes_nothing_from_the_rest(wrong: UserRoleInfo, event: str) -> None:
    trust = RoleTrust(areas=("North",), definitions=(("IEC62351-8", 3),))
    good = UserRoleInfo((0, 2), "North", 3)
    judged = judge([wrong._replace(revision=3) if wrong.revision == 0 else wrong, good], trust, "certificate")
    assert [grant.role for grant in judged.grants] == [0, 2]
    assert names(judged) == [event]


def test_of_one_reason_there_is_one_event() -> None:
    judged = judge([PLAIN._replace(roles=tuple(range(7, 23)))] * 16, RoleTrust(), "certificate")
    assert names(judged) == ["AT_ROLEID_UNKNOWN"]
    assert not judged.grants


def test_private_roles_count_where_they_are_known() -> None:
    infos = [UserRoleInfo((-1, 5), None, 9, "CEI 0-16")]
    assert not judge(infos, RoleTrust(), "certificate").grants
    trust = RoleTrust(roles=(5, -1), definitions=(("CEI 0-16", None),))
    assert [grant.role for grant in judge(infos, trust, "certificate").grants] == [-1, 5]


@pytest.mark.parametrize("operation", [None, OPERATION_ADD, OPERATION_CHANGE])
def test_operations_that_give(operation: int | None) -> None:
    assert judge([PLAIN._replace(operation=operation)], RoleTrust(), "certificate").grants


def test_delete_gives_nothing_and_is_told() -> None:
    judged = judge([PLAIN._replace(operation=OPERATION_DELETE, sequence=4)], RoleTrust(), "certificate")
    assert not judged.grants
    assert judged.withdrawn == {(1, "", "IEC62351-8"): 4}


def test_numbers_that_are_remembered_are_bounded() -> None:
    sequences = RoleSequences()
    grants = [RoleGrant(1, f"area {n}", 0, "IEC62351-8", "certificate", 9) for n in range(300)]
    for grant in grants:
        assert sequences.judge((grant,), ()) == ((grant,), ())
    older = [replace(grant, sequence=8) for grant in grants]
    assert sequences.judge((older[299],), ())[0] == ()
    assert sequences.judge((older[0],), ())[0] == (older[0],)  # forgotten
    assert len(sequences._highest) == 256


@pytest.mark.parametrize(
    "wrong",
    [
        {"areas": ("",)},
        {"areas": ("a" * 65,)},
        {"definitions": (("", None),)},
        {"definitions": (("x" * 24, None),)},
        {"definitions": (("a", 256),)},
        {"definitions": (("a", 1), ("a", 2))},
        {"roles": (32768,)},
        {"required": True, "certificates": False},
    ],
)
def test_a_trust_that_no_token_can_meet_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RoleTrust(**wrong)


# --- in a certificate -------------------------------------------------------------------------------------------------


def certificate(*extensions: builder.Extension) -> Certificate:
    more = (builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT), builder.alternative_names(osi=CLIENT))
    return Certificate(odd_certificate(CLIENT, "p256", extensions=(*more, *extensions)).certificate)


@pytest.mark.parametrize("oid", [oids.IEC_USER_ROLES, oids.IEC_USER_ROLES_2011])
@pytest.mark.parametrize("critical", [False, True])
def test_both_oids_are_read(oid: str, critical: bool) -> None:
    found = certificate(builder.user_roles([PLAIN], oid=oid, critical=critical))
    assert found.user_roles == (PLAIN,)
    assert not found.role_faults


def test_the_oids_are_those_of_the_two_editions() -> None:
    encoded = [builder.Writer(), builder.Writer()]
    encoded[0].oid(oids.IEC_USER_ROLES)
    encoded[1].oid(oids.IEC_USER_ROLES_2011)
    assert [writer.getvalue().hex() for writer in encoded] == ["06062883e70f0801", "06072a8648ce560801"]


def test_without_it_there_are_none() -> None:
    assert certificate().user_roles is None


def test_of_two_the_one_of_2020_counts() -> None:
    new, old = [PLAIN], [UserRoleInfo((4,))]
    both = builder.user_roles(new), builder.user_roles(old, oid=oids.IEC_USER_ROLES_2011)
    for extensions in (both, both[::-1]):
        found = certificate(*extensions)
        assert found.user_roles == (PLAIN,)
        assert [finding.mnemonic for finding in found.role_faults] == ["MULTIPLE_AT"]


def test_a_malformed_one_grants_nothing_but_the_certificate_is_good() -> None:
    found = certificate(builder.Extension(oids.IEC_USER_ROLES, info(ROLES, AOR, DEFINITION)))
    assert found.user_roles is None
    (finding,) = found.role_faults
    assert (finding.id, finding.mnemonic) == ("IEC62351-9:2.13", "CERT_V_PKCE_EXT_VALUE")
    found.check_leaf()


def test_a_malformed_critical_one_makes_the_certificate_unusable() -> None:
    with pytest.raises(HandshakeError) as caught:
        certificate(builder.Extension(oids.IEC_USER_ROLES, info(ROLES, AOR, DEFINITION), critical=True))
    assert caught.value.check == "certificate"


def test_the_trial_authority_issues_it_and_others_read_the_certificate() -> None:
    infos = role_infos(["operator", "5"], ["North", "South"], 2)
    issued = authority("one").issue_e2e("roles", replace(CLIENT, ae_qualifier=77), roles=infos)
    parsed = x509.load_der_x509_certificate(issued.certificate)
    extension = parsed.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.0.62351.8.1"))
    assert not extension.critical
    assert _Infos.load(extension.value.value, strict=True).native[1]["aor"] == "South"
    assert Certificate(issued.certificate).user_roles == infos
    text = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER"], input=issued.certificate, capture_output=True, check=True
    ).stdout.decode()
    assert "1.0.62351.8.1" in text


def test_nobody_asked_no_extension() -> None:
    issued = authority("one").issue_e2e("noroles", replace(CLIENT, ae_qualifier=78))
    assert bytes.fromhex("06062883e70f0801") not in issued.certificate
    assert issued.certificate.count(b"\x55\x1d") == 4


def test_roles_by_name_and_number() -> None:
    assert [parse_role(text) for text in ("viewer", "RBACMNT", "-31648")] == [0, 6, -31648]
    with pytest.raises(ConfigError, match="no role"):
        parse_role("ROOT")
    assert role_infos([]) == ()
