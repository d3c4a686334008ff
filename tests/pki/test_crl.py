"""Revocation: what a CRL says is heard, what it cannot say becomes a warning, what is forged is not believed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import pki_forge as forge
import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from pki_forge import DAY, NOW, Ca

from fastsec import limits
from fastsec._core.cursor import encode_oid, tlv
from fastsec.errors import ConfigError, DecodeError, HandshakeError, IntegrityError, PeerError
from fastsec.pki import builder, oids
from fastsec.pki.builder import Extension
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import load_crls
from fastsec.pki.crl import RevocationList
from fastsec.pki.path import TrustStore, VerifiedPeer
from fastsec.pki.trial import TrialAuthority

ROOT = forge.root()
MIDDLE = forge.intermediate(ROOT, serial=50)
LEAF = forge.leaf(ROOT, serial=100)
LOW_LEAF = forge.leaf(MIDDLE, serial=200)


def check(
    *crls: bytes, leaf: bytes = LEAF, path: Sequence[bytes] = (), anchors: Sequence[Ca] = (ROOT,), now: int = NOW
) -> VerifiedPeer:
    return TrustStore([ca.certificate for ca in anchors], crls).validate(leaf, path, now)


def warned(peer: VerifiedPeer) -> list[str]:
    return [warning.partition(":")[0] for warning in peer.warnings]


def revoked(*crls: bytes, leaf: bytes = LEAF, path: Sequence[bytes] = (), now: int = NOW) -> None:
    with pytest.raises(HandshakeError) as caught:
        check(*crls, leaf=leaf, path=path, now=now)
    assert caught.value.check == "revoked"


def malformed(der: bytes) -> None:
    with pytest.raises(DecodeError):
        RevocationList(der)
    with pytest.raises(ConfigError):
        TrustStore([ROOT.certificate], [der])


# --- verdicts -------------------------------------------------------------------------------------------------------
def test_revoked_and_not() -> None:
    assert check(ROOT.crl()).warnings == ()
    assert check(ROOT.crl(99, 101)).warnings == ()
    revoked(ROOT.crl(99, 100, 101))


def test_leading_zero_of_a_serial() -> None:
    leaf = forge.leaf(ROOT, serial=0xFF00)
    revoked(ROOT.crl(0xFF00), leaf=leaf)
    assert check(ROOT.crl(0xFF), leaf=leaf).warnings == ()


def test_revoked_intermediate() -> None:
    path = [MIDDLE.certificate]
    assert check(ROOT.crl(), MIDDLE.crl(), leaf=LOW_LEAF, path=path).warnings == ()
    revoked(ROOT.crl(50), MIDDLE.crl(), leaf=LOW_LEAF, path=path)
    revoked(ROOT.crl(), MIDDLE.crl(200), leaf=LOW_LEAF, path=path)
    # A number counts only on the list of the certificate's own issuer.
    assert check(ROOT.crl(200), MIDDLE.crl(50), leaf=LOW_LEAF, path=path).warnings == ()


def test_no_crl() -> None:
    assert warned(check()) == ["CERT_V_R_NR_CRL"]
    assert warned(check(leaf=LOW_LEAF, path=[MIDDLE.certificate])) == ["CERT_V_R_NR_CRL"] * 2
    assert warned(check(MIDDLE.crl(), leaf=LOW_LEAF, path=[MIDDLE.certificate])) == ["CERT_V_R_NR_CRL"]
    assert "root" in check().warnings[0]


def test_expired_crl() -> None:
    old = ROOT.crl(this=NOW - 3 * DAY, following=NOW - DAY)
    assert warned(check(old)) == ["CERT_V_CRL_EXP"]
    assert check(ROOT.crl(following=NOW)).warnings == ()
    assert warned(check(ROOT.crl(following=NOW), now=NOW + 1000)) == ["CERT_V_CRL_EXP"]
    revoked(ROOT.crl(100, this=NOW - 3 * DAY, following=NOW - DAY))


def test_crl_without_an_end() -> None:
    assert check(ROOT.crl(following=None)).warnings == ()


def test_crl_from_the_future() -> None:
    skew = limits.SPEC_CLOCK_SKEW * 1000
    assert check(ROOT.crl(this=NOW + skew)).warnings == ()
    assert warned(check(ROOT.crl(this=NOW + skew + 1000))) == ["CERT_V_R_NR_CRL"]


def test_the_newest_crl_counts() -> None:
    old, new = ROOT.crl(100, this=NOW - 2 * DAY), ROOT.crl(this=NOW - DAY)
    for crls in ((old, new), (new, old)):
        assert check(*crls).warnings == ()
    old, new = ROOT.crl(this=NOW - 2 * DAY), ROOT.crl(100, this=NOW - DAY)
    for crls in ((old, new), (new, old)):
        revoked(*crls)


def test_forged_crl() -> None:
    impostor = Ca(ROOT.name, builder.generate_key("p256"))
    forged = builder.revocation_list(
        issuer=ROOT.name,
        this_update_ms=NOW - DAY,
        next_update_ms=NOW + DAY,
        revoked=[(100, NOW - DAY)],
        extensions=(builder.authority_key_identifier(ROOT.identifier),),
        key=impostor.key,
    )
    assert warned(check(forged)) == ["CERT_V_CRL_SIG_FAIL"]
    # It neither revokes nor covers up.
    assert check(forged, ROOT.crl()).warnings == ()
    revoked(forged, ROOT.crl(100))
    clean = builder.revocation_list(
        issuer=ROOT.name, this_update_ms=NOW, next_update_ms=NOW + DAY, revoked=[], extensions=(), key=impostor.key
    )
    revoked(clean, ROOT.crl(100))
    changed = bytearray(ROOT.crl())
    changed[-1] ^= 1
    assert warned(check(bytes(changed))) == ["CERT_V_CRL_SIG_FAIL"]


def test_crl_of_a_namesake() -> None:
    other = forge.root("root")
    assert warned(check(other.crl(100))) == ["CERT_V_R_NR_CRL"]
    assert warned(check(other.crl(100), anchors=[ROOT, other])) == ["CERT_V_R_NR_CRL"]
    assert check(other.crl(100), ROOT.crl(), anchors=[ROOT, other]).warnings == ()


def test_authority_that_may_not_sign_crls() -> None:
    key = builder.generate_key("p256")
    identifier = builder.key_identifier(builder.spki(key.public_key()))
    extensions = forge.replace(forge.ca_extensions(identifier, identifier), builder.key_usage(oids.KU_KEY_CERT_SIGN))
    root = forge.root("no crl", key=key, extensions=extensions)
    leaf = forge.leaf(root, serial=100)
    assert warned(check(root.crl(100), leaf=leaf, anchors=[root])) == [
        "CERT_V_CRL_SIG_FAIL",
        "CERT_PKCE_KU_CRLS",
    ]
    with pytest.raises(IntegrityError):
        RevocationList(root.crl()).verify(Certificate(root.certificate, ca=True))


def test_a_signature_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    original = RevocationList.verify

    def counted(self: RevocationList, issuer: Certificate) -> None:
        nonlocal count
        count += 1
        original(self, issuer)

    monkeypatch.setattr(RevocationList, "verify", counted)
    trust = TrustStore([ROOT.certificate], [ROOT.crl()])
    for _ in range(3):
        trust.validate(LEAF, [], NOW)
    assert count == 1


# --- scopes ---------------------------------------------------------------------------------------------------------
def scope(content: bytes) -> Extension:
    return Extension(oids.ISSUING_DISTRIBUTION_POINT, tlv(0x30, content), critical=True)


@pytest.mark.parametrize(
    ("content", "users", "authorities"),
    [
        (b"", True, True),
        (b"\x81\x01\xff", True, False),
        (b"\x82\x01\xff", False, True),
        (b"\x83\x02\x06\x40", False, False),
        (b"\x85\x01\xff", False, False),
    ],
)
def test_scopes(content: bytes, users: bool, authorities: bool) -> None:
    part = ROOT.crl(100, extra=[scope(content)])
    assert (RevocationList(part).for_users, RevocationList(part).for_authorities) == (users, authorities)
    revoked(part)
    none = ROOT.crl(extra=[scope(content)])
    assert bool(check(none).warnings) != users
    low = check(none, MIDDLE.crl(), leaf=LOW_LEAF, path=[MIDDLE.certificate])
    assert bool(low.warnings) != authorities
    # A narrow list does not hide the complete one.
    revoked(ROOT.crl(this=NOW - 1000, extra=[scope(b"\x82\x01\xff")]), ROOT.crl(100))


def test_lists_that_are_not_used() -> None:
    malformed(ROOT.crl(extra=[scope(b"\x84\x01\xff")]))  # indirect
    malformed(ROOT.crl(extra=[scope(b"\x86\x01\xff")]))  # not known; this once never came to an end
    malformed(ROOT.crl(extra=[Extension(oids.DELTA_CRL_INDICATOR, b"\x02\x01\x01", critical=True)]))
    malformed(ROOT.crl(extra=[Extension("1.2.3", b"\x05\x00", critical=True)]))
    assert RevocationList(ROOT.crl(extra=[Extension("1.2.3", b"\x05\x00")])).serials == frozenset()


# --- form -----------------------------------------------------------------------------------------------------------
def crl_of(*parts: bytes) -> bytes:
    algorithm = builder.signature_algorithm(ROOT.key, "sha256")
    return tlv(0x30, tlv(0x30, b"".join(parts)) + algorithm + tlv(0x03, b"\x00" + bytes(70)))


ALGORITHM = builder.signature_algorithm(ROOT.key, "sha256")
HEAD = (b"\x02\x01\x01", ALGORITHM, ROOT.name, builder.time(NOW))


def entry(extension: bytes = b"", serial: bytes = b"\x02\x01\x07") -> bytes:
    return tlv(0x30, tlv(0x30, serial + builder.time(NOW) + extension))


def test_forms() -> None:
    assert RevocationList(crl_of(*HEAD)).serials == frozenset()
    assert RevocationList(crl_of(*HEAD[1:], entry())).serials == {b"\x07"}  # version 1
    reason = tlv(0x30, tlv(0x30, tlv(0x06, encode_oid("2.5.29.21")) + tlv(0x04, b"\x0a\x01\x01")))
    assert RevocationList(crl_of(*HEAD, builder.time(NOW), entry(reason))).serials == {b"\x07"}
    critical = tlv(0x30, tlv(0x30, tlv(0x06, encode_oid("2.5.29.29")) + b"\x01\x01\xff" + tlv(0x04, b"\x30\x00")))
    malformed(crl_of(*HEAD, entry(critical)))
    malformed(crl_of(*HEAD, entry(serial=b"\x02\x01\x80")))
    malformed(crl_of(b"\x02\x01\x02", *HEAD[1:]))
    malformed(crl_of(HEAD[0], builder.signature_algorithm(ROOT.key, "sha384"), *HEAD[2:]))
    malformed(crl_of(*HEAD, b"\x05\x00"))
    malformed(crl_of(*HEAD[:3]))
    malformed(b"")
    malformed(LEAF)


def test_every_truncation() -> None:
    crl = ROOT.crl(1, 2, 3)
    for size in range(len(crl)):
        malformed(crl[:size])
    malformed(crl + b"\x00")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_crl_is_a_value_or_refused(position: int, octet: int) -> None:
    changed = bytearray(ROOT.crl(1, 2, 3))
    changed[position % len(changed)] = octet
    try:
        ours = RevocationList(bytes(changed))
    except PeerError:
        return
    try:
        theirs = x509.load_der_x509_crl(bytes(changed))
        numbers = {item.serial_number for item in theirs}
    except ValueError:
        return
    assert {int.from_bytes(serial, "big") for serial in ours.serials} == numbers


def test_many_entries() -> None:
    crl = RevocationList(ROOT.crl(*range(20_000)))
    assert len(crl.serials) == 20_000


def test_the_trial_authoritys_crl() -> None:
    authority = TrialAuthority.in_memory(NOW)
    issued = authority.issue_e2e("a", forge.OSI).certificate
    before = authority.crl
    after = authority.revoke(issued)
    assert TrustStore([authority.root], [before]).validate(issued, [], NOW).warnings == ()
    with pytest.raises(HandshakeError) as caught:
        TrustStore([authority.root], [before, after]).validate(issued, [], NOW)
    assert caught.value.check == "revoked"


@pytest.mark.parametrize("width", [1, 3, 61, 64, 76, 10_000_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \t\n"])
def test_pem_of_any_size_and_width(tmp_path: Path, width: int, end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pieces, so that nobody waits for it; what comes out is the same."""
    monkeypatch.setattr("fastsec.pki.credential._PIECE", 1000)
    lists = [ROOT.crl(*range(count)) for count in (0, 1, 40, 41, 42)]
    blocks = []
    for der in lists:
        text = base64.b64encode(der)
        lines = [text[i : i + width] for i in range(0, len(text), width)]
        blocks += [b"-----BEGIN X509 CRL-----", *lines, b"-----END X509 CRL-----", b"a word"]
    path = tmp_path / "lists.pem"
    path.write_bytes(b"before" + end + end.join(blocks))
    assert load_crls(path) == tuple(lists)
    path.write_bytes(end.join(blocks).replace(b"-----END", b"!-----END", 1))
    with pytest.raises(ConfigError, match="damaged PEM"):
        load_crls(path)
    path.write_bytes(b"-----BEGIN X509 CRL-----" + end + base64.b64encode(lists[0]))
    with pytest.raises(ConfigError, match="holds no CRL"):
        load_crls(path)
