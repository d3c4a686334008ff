"""The trial authority: what it issues conforms, and its files are what they should be."""

from __future__ import annotations

import ipaddress
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pki_forge import DAY, NOW, OSI

from fastsec.errors import ConfigError
from fastsec.pki import oids
from fastsec.pki.certificate import Certificate
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.pki.trial import ORGANIZATION, TrialAuthority


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("root_key", ["p256", "brainpool", "rsa2048"])
@pytest.mark.parametrize("key", ["p256", "brainpool", "rsa2048"])
def test_end_to_end_certificate(root_key: str, key: str) -> None:
    authority = TrialAuthority.in_memory(NOW, key=root_key)
    issued = authority.issue_e2e("ied1", OSI, key=key)
    for binding in ("subject", "registered-id", "either"):
        peer = TrustStore([authority.root], [authority.crl], binding).validate(issued.certificate, [], NOW)  # type: ignore[arg-type]  # str for Literal
        assert peer.names == {OSI.oid}
        assert peer.warnings == ()
    x509.load_der_x509_certificate(issued.certificate).verify_directly_issued_by(
        x509.load_der_x509_certificate(authority.root)
    )
    certificate = Certificate(issued.certificate)
    assert certificate.subject_oid == OSI.oid
    assert certificate.registered_ids == (OSI.oid,)
    assert 8 < len(certificate.serial) <= 17
    assert issued.paths == ()
    kinds = {"p256": ec.SECP256R1, "brainpool": ec.BrainpoolP256R1}
    if key in kinds:
        assert isinstance(issued.key, ec.EllipticCurvePrivateKey)
        assert isinstance(issued.key.curve, kinds[key])
    else:
        assert isinstance(issued.key, rsa.RSAPrivateKey)
        assert issued.key.key_size == 2048
    # RFC 5280: keyUsage is critical.
    usage = x509.load_der_x509_certificate(issued.certificate).extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical


def test_serials_and_names_differ() -> None:
    one, other = TrialAuthority.in_memory(NOW), TrialAuthority.in_memory(NOW)
    assert Certificate(one.root, ca=True).subject != Certificate(other.root, ca=True).subject
    serials = {Certificate(one.issue_e2e("a", OSI).certificate).serial for _ in range(20)}
    assert len(serials) == 20


def test_it_says_trial() -> None:
    authority = TrialAuthority.in_memory(NOW)
    assert ORGANIZATION.encode() in Certificate(authority.root, ca=True).subject
    assert ORGANIZATION.encode() in Certificate(authority.issue_e2e("a", OSI).certificate).issuer


def test_tls_certificate() -> None:
    authority = TrialAuthority.in_memory(NOW)
    der = authority.issue_tls("ied1", ["ied1.example", "127.0.0.1", "::1"]).certificate
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["ied1.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in purposes] == [oids.SERVER_AUTH, oids.CLIENT_AUTH]
    for hosts in ([], ["a b"], [""], ["müller.example"]):
        with pytest.raises(ConfigError):
            authority.issue_tls("ied1", hosts)


def test_directory(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    authority = TrialAuthority.create(directory, NOW)
    issued = authority.issue_e2e("ied1", OSI)
    authority.issue_tls("ied1", ["localhost"])
    files = {path.name: mode(path) for path in directory.iterdir()}
    assert files == {
        "root.pem": 0o644,
        "root.key": 0o600,
        "root.crl.pem": 0o644,
        "ied1.e2e.pem": 0o644,
        "ied1.e2e.key": 0o600,
        "ied1.tls.pem": 0o644,
        "ied1.tls.key": 0o600,
    }
    assert mode(directory) == 0o700
    assert issued.paths[0].read_bytes() == issued.certificate_pem
    key = load_pem_private_key((directory / "ied1.e2e.key").read_bytes(), None)
    assert key.public_key() == issued.key.public_key()

    again = TrialAuthority.open(directory, NOW)
    assert again.root == authority.root
    assert again.crl == authority.crl
    with pytest.raises(ConfigError):
        TrialAuthority.create(directory, NOW)
    with pytest.raises(ConfigError):
        again.issue_e2e("ied1", OSI)
    assert issued.paths[0].read_bytes() == issued.certificate_pem


def test_openssl_accepts_the_files(tmp_path: Path) -> None:
    authority = TrialAuthority.create(tmp_path, NOW)
    authority.issue_tls("ied1", ["localhost"])
    command = [
        "openssl",
        "verify",
        "-attime",
        str(NOW // 1000),
        "-CAfile",
        "root.pem",
        "-CRLfile",
        "root.crl.pem",
        "-crl_check",
        "-x509_strict",
        "ied1.tls.pem",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    authority.revoke_name("ied1")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "revoked" in done.stderr


def test_revoking(tmp_path: Path) -> None:
    authority = TrialAuthority.create(tmp_path, NOW)
    first = authority.issue_e2e("ied1", OSI)
    authority.issue_tls("ied1", ["localhost"])
    second = authority.issue_e2e("ied2", OsiName("1.1.1.999.1", 12))
    later = TrialAuthority.open(tmp_path, NOW + DAY)
    assert [path.name for path in later.revoke_name("ied1")] == ["ied1.e2e.pem", "ied1.tls.pem"]
    crl = x509.load_pem_x509_crl((tmp_path / "root.crl.pem").read_bytes())
    assert len(crl) == 2
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 2
    assert crl.is_signature_valid(x509.load_der_x509_certificate(authority.root).public_key())  # type: ignore[arg-type]  # EC key
    numbers = {item.serial_number for item in crl}
    assert x509.load_der_x509_certificate(first.certificate).serial_number in numbers
    later.revoke(second.certificate)
    assert len(x509.load_pem_x509_crl((tmp_path / "root.crl.pem").read_bytes())) == 3
    later.revoke(second.certificate)
    assert len(x509.load_der_x509_crl(later.crl)) == 3
    assert not list(tmp_path.glob("*.new"))


def test_revoking_what_is_not_there(tmp_path: Path) -> None:
    authority = TrialAuthority.create(tmp_path, NOW)
    for name in ("nobody", "../x", ""):
        with pytest.raises(ConfigError):
            authority.revoke_name(name)
    with pytest.raises(ConfigError):
        authority.revoke(TrialAuthority.in_memory(NOW).issue_e2e("a", OSI).certificate)
    with pytest.raises(ConfigError):
        TrialAuthority.in_memory(NOW).revoke_name("a")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "ä", "x" * 65, "-x", "a\n"])
def test_names_of_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        TrialAuthority.create(tmp_path / "pki", NOW).issue_e2e(name, OSI)


def test_options() -> None:
    for days in (0, -1, 40_000):
        with pytest.raises(ConfigError):
            TrialAuthority.in_memory(NOW, days=days)
    with pytest.raises(ConfigError):
        TrialAuthority.in_memory(NOW, key="rsa1024")
    authority = TrialAuthority.in_memory(NOW, days=30_000)
    assert Certificate(authority.root, ca=True).not_after_ms == NOW + 30_000 * DAY
    assert Certificate(authority.issue_e2e("a", OSI, days=1).certificate).not_after_ms == NOW + DAY


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        TrialAuthority.open(tmp_path, NOW)
    TrialAuthority.create(tmp_path, NOW)
    (tmp_path / "root.key").write_bytes(b"damaged")
    with pytest.raises(ConfigError):
        TrialAuthority.open(tmp_path, NOW)
