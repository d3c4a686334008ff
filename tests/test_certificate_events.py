"""What is wrong with a peer's certificates has its own event (62351-9 groups 2 and 4), beside that of the handshake.

Every case is a client that shows such a certificate, and a server that looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine_pair import CLIENT, SERVER, UTC, ConnectionPair, config
from fastsec import limits
from fastsec._core.cursor import Reader, tlv
from fastsec._core.pk import PrivateKey
from fastsec.config import Config
from fastsec.pki import builder, oids
from fastsec.pki.builder import Extension
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import Credential, SoftwareSigner
from fastsec.pki.crl import RevocationList
from fastsec.pki.path import TrustStore
from fastsec.pki.revocation import RevocationPolicy, Revocations
from fastsec.pki.trial import Issued
from pki import pki_forge as forge
from pki.pki_forge import Ca

DAY = forge.DAY
LIFE = {"not_before_ms": UTC - DAY, "not_after_ms": UTC + DAY}
ROOT = forge.root("events", **{**LIFE, "not_after_ms": UTC + 9 * DAY})
KEY = builder.generate_key("p256")
PUBLIC = builder.spki(KEY.public_key())
RSA_1024 = bytes.fromhex("30819f300d06092a864886f70d010101050003818d0030818902818100") + b"\xc1" * 128 + bytes.fromhex(
    "0203010001"
)  # fmt: skip


def extensions(issuer: Ca = ROOT, *new: Extension, without: str = "") -> tuple[Extension, ...]:
    found = forge.replace(forge.leaf_extensions(issuer, PUBLIC, CLIENT), *new)
    return forge.without(found, without)


def leaf(issuer: Ca = ROOT, **fields: Any) -> bytes:
    """A client's certificate under ``issuer``, good unless something else is said."""
    wanted = {"public": PUBLIC, "subject": builder.osi_subject(CLIENT), **LIFE, **fields}
    if "extensions" not in wanted:
        wanted["extensions"] = extensions(issuer)
    return forge.leaf(issuer, **wanted)


def middle(issuer: Ca = ROOT, **fields: Any) -> Ca:
    return forge.intermediate(issuer, **{**LIFE, **fields})


def client(certificate: bytes, path: Sequence[bytes] = ()) -> Config:
    """Whoever shows this certificate."""
    pem = Issued(certificate, KEY).key_pem
    credential = Credential(certificate, tuple(path), SoftwareSigner(PrivateKey.from_pem(pem)), CLIENT)
    return config(CLIENT, credential=credential)


def server(
    crls: Sequence[bytes] = (), policy: RevocationPolicy | None = None, anchors: Sequence[Ca] = (ROOT,)
) -> Config:
    known = Revocations(crls, policy)
    return config(SERVER, trust=TrustStore([ROOT.certificate], revocation=known))


def meet(one: Config, other: Config) -> ConnectionPair:
    pair = ConnectionPair(one, other)
    pair.client.start(b"\xa8\x00")
    pair.move()
    return pair


def resigned(change: Callable[[bytes], bytes], der: bytes | None = None) -> bytes:
    """A certificate with its tbs changed, signed anew by the root."""
    tbs = Certificate(der or leaf(), ca=True).tbs
    return builder.signed(_content(change(tbs)), ROOT.key, "sha256")


def _content(tbs: bytes) -> bytes:
    reader = Reader(tbs)
    reader.expect(0x30)
    return reader.value()


def under(ca: Ca) -> tuple[bytes, list[bytes]]:
    return leaf(ca, extensions=extensions(ca)), [ca.certificate]


def having(*new: Extension) -> bytes:
    """A leaf with these extensions instead of its own."""
    return leaf(extensions=extensions(ROOT, *new))


def critical(oid: str, value: bytes) -> Extension:
    return Extension(oid, value, critical=True)


@dataclass
class Case:
    """A client's certificate and path, and which event of group 2 it is worth."""

    event: int
    make: Callable[[], tuple[bytes, list[bytes]] | bytes]
    handshake: str = "PKCERT_ERROR_ASS_REQ"
    crls: list[bytes] = field(default_factory=list)


def ca_with(*new: Extension, **fields: Any) -> Ca:
    key = builder.generate_key("p256")
    identifier = builder.key_identifier(builder.spki(key.public_key()))
    made = forge.replace(forge.ca_extensions(identifier, ROOT.identifier), *new)
    return middle(key=key, extensions=made, **fields)


NAMESAKE = forge.root("events", **LIFE)
OTHER = builder.text_name(cn="x")
AN_AKI = builder.authority_key_identifier(ROOT.identifier)


def _too_deep() -> tuple[bytes, list[bytes]]:
    low = ca_with(builder.basic_constraints(True, 0))
    lower = forge.intermediate(low, "lower", **LIFE)
    return leaf(lower, extensions=extensions(lower)), [low.certificate, lower.certificate]


CASES = {
    "negative serial number": Case(1, lambda: leaf(serial=-5)),
    "unique identifier": Case(1, lambda: resigned(_with_unique_identifier)),
    "short key": Case(1, lambda: leaf(public=RSA_1024)),
    "forged": Case(2, lambda: _flip(leaf()), "PKCERT_ALARM_ASS_REQ"),
    "version 1": Case(3, lambda: resigned(lambda tbs: tbs.replace(b"\x02\x01\x02", b"\x02\x01\x00", 1))),
    "issuer unknown": Case(4, lambda: leaf(forge.root("nobody", **LIFE))),
    "SHA-1": Case(5, lambda: _sha1()),
    "expired": Case(6, lambda: leaf(not_after_ms=UTC - 1000)),
    "issuer expired": Case(6, lambda: under(middle(not_after_ms=UTC - 1000))),
    "early": Case(7, lambda: leaf(not_before_ms=UTC + DAY, not_after_ms=UTC + 2 * DAY)),
    "issuer early": Case(7, lambda: under(middle(not_before_ms=UTC + DAY, not_after_ms=UTC + 2 * DAY))),
    "no identity": Case(8, lambda: leaf(subject=OTHER, extensions=extensions(without=oids.SUBJECT_ALT_NAME))),
    "two identities": Case(8, lambda: leaf(extensions=extensions(ROOT, builder.alternative_names(osi=forge.OSI)))),
    "two algorithms": Case(9, lambda: _two_algorithms()),
    "no anchor": Case(10, lambda: under(forge.intermediate(forge.root("stranger", **LIFE), **LIFE))),
    "path that does not fit": Case(11, lambda: (leaf(forge.root("nobody", **LIFE)), [middle().certificate])),
    "unknown critical extension": Case(12, lambda: having(critical("1.2.3", b"\x05\x00"))),
    "malformed extension": Case(13, lambda: having(critical(oids.KEY_USAGE, b"\x05\x00"))),
    "extension twice": Case(13, lambda: leaf(extensions=(*extensions(), AN_AKI))),
    "malformed distribution point": Case(
        13, lambda: leaf(extensions=extensions(ROOT, Extension(oids.CRL_DISTRIBUTION_POINTS, b"\x30\x02\x05\x00")))
    ),
    "malformed responder": Case(
        13, lambda: leaf(extensions=extensions(ROOT, Extension(oids.AUTHORITY_INFO_ACCESS, b"\x30\x02\x30\x00")))
    ),
    "other purposes": Case(
        13,
        lambda: leaf(extensions=extensions(
            ROOT, Extension(oids.EXTENDED_KEY_USAGE, builder.extended_key_usage(oids.SERVER_AUTH).value, True)
        )),
    ),
    "key of a namesake": Case(14, lambda: leaf(NAMESAKE, extensions=extensions(NAMESAKE)), "PKCERT_ALARM_ASS_REQ"),
    "an authority's": Case(17, lambda: leaf(extensions=extensions(ROOT, builder.basic_constraints(True)))),
    "issuer is no authority": Case(17, lambda: under(ca_with(builder.basic_constraints(False)))),
    "path length": Case(18, _too_deep),
    "path length where none may be": Case(
        18, lambda: having(critical(oids.BASIC_CONSTRAINTS, tlv(0x30, b"\x02\x01\x00")))
    ),
    "no digitalSignature": Case(19, lambda: having(builder.key_usage(oids.KU_KEY_AGREEMENT))),
    "no key usage": Case(19, lambda: leaf(extensions=extensions(without=oids.KEY_USAGE))),
    "no keyAgreement": Case(20, lambda: having(builder.key_usage(oids.KU_DIGITAL_SIGNATURE))),
    "no keyCertSign": Case(21, lambda: under(ca_with(builder.key_usage(oids.KU_CRL_SIGN)))),
}  # fmt: skip


def _flip(der: bytes) -> bytes:
    return der[:-1] + bytes([der[-1] ^ 1])


def _sha1() -> bytes:
    """ecdsa-with-SHA1, inside and outside."""
    tbs = Certificate(leaf()).tbs
    ours, theirs = builder.signature_algorithm(ROOT.key, "sha256"), bytes.fromhex("300906072a8648ce3d0401")
    content = _content(tbs).replace(ours, theirs, 1)
    return tlv(0x30, tlv(0x30, content) + theirs + tlv(0x03, bytes(71)))


def _two_algorithms() -> bytes:
    tbs = Certificate(leaf()).tbs
    return tlv(0x30, tbs + builder.signature_algorithm(ROOT.key, "sha384") + tlv(0x03, bytes(71)))


def _with_unique_identifier(tbs: bytes) -> bytes:
    content = _content(tbs)
    start = content.rindex(b"\xa3\x81") if b"\xa3\x81" in content else content.rindex(b"\xa3")
    return tlv(0x30, content[:start] + b"\x81\x02\x00\x01" + content[start:])


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=pytest.mark.event(f"IEC62351-9:2.{case.event}"))
        for name, case in CASES.items()
    ],
)
def test_each_fault_has_its_event(case: Case) -> None:
    made = case.make()
    certificate, path = made if isinstance(made, tuple) else (made, [])
    pair = meet(client(certificate, path), server([ROOT.crl(this=UTC - DAY, following=UTC + DAY)]))
    assert pair.server.details == [f"IEC62351-9:2.{case.event}"]
    assert pair.server.events == [case.handshake]
    assert [event.peer for event in pair.server.raised] == [str(CLIENT)] * 2
    assert pair.client.ended


def test_all_of_group_2_but_those_of_tls_and_responders_have_a_case() -> None:
    """16, 23, 24: TLS. 15, 22, 25, 26, 27: below and in the tests of OCSP."""
    assert {case.event for case in CASES.values()} == set(range(1, 28)) - {15, 16, 22, 23, 24, 25, 26, 27}


# --- what is not as it should be, but decides nothing ----------------------------------------------------------------
CRL = ROOT.crl(this=UTC - DAY, following=UTC + DAY)


@pytest.mark.event("IEC62351-9:2.14")
def test_no_authority_key_identifier() -> None:
    pair = meet(client(leaf(extensions=extensions(without=oids.AUTHORITY_KEY_IDENTIFIER))), server([CRL]))
    assert pair.server.details == ["IEC62351-9:2.14"]
    assert not pair.server.ended


@pytest.mark.event("IEC62351-9:2.15")
def test_an_authority_without_subject_key_identifier() -> None:
    key = builder.generate_key("p256")
    identifier = builder.key_identifier(builder.spki(key.public_key()))
    bare = forge.without(forge.ca_extensions(identifier, ROOT.identifier), oids.SUBJECT_KEY_IDENTIFIER)
    ca = middle(key=key, extensions=bare)
    crl = ca.crl(this=UTC - DAY, following=UTC + DAY)
    pair = meet(client(*under(ca)), server([CRL, crl]))
    assert pair.server.details == ["IEC62351-9:2.15"]
    assert not pair.server.ended


@pytest.mark.event("IEC62351-9:2.22", "IEC62351-9:4.4")
def test_an_authority_that_may_not_sign_lists() -> None:
    ca = ca_with(builder.key_usage(oids.KU_KEY_CERT_SIGN))
    crl = ca.crl(this=UTC - DAY, following=UTC + DAY)
    pair = meet(client(*under(ca)), server([CRL, crl]))
    assert pair.server.details == ["IEC62351-9:4.4", "IEC62351-9:2.22"]


@pytest.mark.event("IEC62351-9:2.26", "IEC62351-9:4.2")
def test_no_distribution_point() -> None:
    pair = meet(client(leaf()), server([], RevocationPolicy(hosts=("pki.example.org",))))
    assert pair.server.details == ["IEC62351-9:4.2", "IEC62351-9:2.26"]


@pytest.mark.event("IEC62351-9:2.27", "IEC62351-9:4.2")
def test_no_responder() -> None:
    policy = RevocationPolicy(ocsp="needed", hosts=("pki.example.org",))
    named = leaf(extensions=extensions(ROOT, builder.crl_distribution_points("http://other.example.org/")))
    assert meet(client(named), server([], policy)).server.details == ["IEC62351-9:4.2", "IEC62351-9:2.27"]


# --- revocation ------------------------------------------------------------------------------------------------------
REASONS = ["unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded", "cessationOfOperation",
           "certificateHold", None, None, "privilegeWithdrawn", "aACompromise", "weakAlgorithmOrKey"]  # fmt: skip


def listing(*entries: tuple[int, ...], number: int = 1, this: int = UTC - DAY) -> bytes:
    return builder.revocation_list(
        issuer=ROOT.name,
        this_update_ms=this,
        next_update_ms=UTC + DAY,
        revoked=entries,
        extensions=(AN_AKI, builder.crl_number(number)),
        key=ROOT.key,
    )


@pytest.mark.event("IEC62351-9:4.1", "IEC62351-4:1.7")
@pytest.mark.parametrize("number", [n for n, name in enumerate(REASONS) if name])
def test_the_reason_goes_into_the_event(number: int) -> None:
    pair = meet(client(leaf(serial=77)), server([listing((77, UTC - DAY, number))]))
    (event,) = [event for event in pair.server.raised if event.id == "IEC62351-9:4.1"]
    facts = dict(event.params)
    assert facts["CRLReason"] == REASONS[number]
    assert facts["serial"] == "4d"
    assert facts["since"] == str((UTC - DAY) // 1000)
    assert pair.server.events == ["PKCERT_ALARM_ASS_REQ"]


def test_what_is_removed_from_a_list_is_not_revoked() -> None:
    pair = meet(client(leaf(serial=77)), server([listing((77, UTC - DAY, 8))]))
    assert not pair.server.ended
    assert not pair.server.details


def test_a_hold_ends_with_the_next_list() -> None:
    known = Revocations()
    trust = TrustStore([ROOT.certificate], revocation=known)
    known.replace("x", [RevocationList(listing((77, UTC - DAY, 6)))])
    assert meet(client(leaf(serial=77)), config(SERVER, trust=trust)).server.ended
    known.replace("x", [RevocationList(listing(number=2, this=UTC - 1000))])
    assert not meet(client(leaf(serial=77)), config(SERVER, trust=trust)).server.ended
    known.replace("x", [RevocationList(listing((77, UTC - DAY, 6)))])  # an older one comes back
    assert not meet(client(leaf(serial=77)), config(SERVER, trust=trust)).server.ended


@pytest.mark.event("IEC62351-9:4.1")
def test_a_revoked_authority() -> None:
    ca = middle(serial=50)
    crl = ca.crl(this=UTC - DAY, following=UTC + DAY)
    pair = meet(client(*under(ca)), server([listing((50, UTC - DAY, 2)), crl]))
    assert pair.server.details == ["IEC62351-9:4.1"]


@pytest.mark.parametrize("hard", [False, True])
def test_warnings_are_told_once_per_association_and_may_refuse(hard: bool) -> None:
    pair = meet(client(leaf()), server([], RevocationPolicy(hard_fail=hard)))
    assert pair.server.details == ["IEC62351-9:4.2"]
    assert pair.server.ended == hard
    assert pair.server.events == (["PKCERT_ERROR_ASS_REQ"] if hard else [])


@pytest.mark.event("IEC62351-9:4.1", "IEC62351-9:4.2")
def test_an_open_association_is_looked_at_again() -> None:
    """What is newly doubtful is told once, hard_fail or not; who is revoked goes, with the event."""
    known = Revocations([], RevocationPolicy(hard_fail=True))
    trust = TrustStore([ROOT.certificate], revocation=known)
    known.replace("x", [RevocationList(listing())])
    pair = meet(client(leaf(serial=77)), config(SERVER, trust=trust))
    assert not pair.server.details
    known.drop("x")
    for _ in range(2):
        pair.server.recheck()
        pair.server.tick()
        pair.move()
    assert pair.server.details == ["IEC62351-9:4.2"]
    assert not pair.server.ended
    known.replace("x", [RevocationList(listing((77, UTC, 1)))])
    pair.server.recheck()
    pair.server.tick()
    pair.move()
    assert pair.server.details == ["IEC62351-9:4.2", "IEC62351-9:4.1"]
    assert pair.server.error.check == "revoked"


def test_a_list_that_comes_during_the_handshake_counts() -> None:
    """The check is over, the application still decides: the association is looked at again as soon as it is open."""
    known = Revocations()
    trust = TrustStore([ROOT.certificate], revocation=known)
    known.replace("x", [RevocationList(listing())])
    pair = ConnectionPair(client(leaf(serial=77)), config(SERVER, trust=trust), accept=None)
    pair.client.start(b"\xa8\x00")
    pair.move()
    known.replace("x", [RevocationList(listing((77, UTC, 1), number=2, this=UTC - 1000))])
    pair.server.recheck()
    pair.server.accept(b"\xa9\x00")
    pair.move()
    pair.server.tick()
    pair.move()
    assert pair.server.error.check == "revoked"


def test_limits_stand_in_one_place() -> None:
    """Both sides may have to ask within the client's patience."""
    assert 2 * limits.OUR_REVOCATION_TIMEOUT_MAX < limits.OUR_AARQ_TO_AARE
