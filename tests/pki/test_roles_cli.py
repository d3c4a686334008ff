"""``fastsec pki`` for roles, and the files it leaves: read here, by OpenSSL, asn1crypto and pyHanko's validator."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import cms, core, pem
from asn1crypto import x509 as x509_
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.validate import async_validate_ac

from engine_pair import CLIENT, UTC, authority, credential
from fastsec.cli.pki import main
from fastsec.errors import ConfigError
from fastsec.pki.attribute import AttributeCertificate
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import (
    load_attribute_certificate,
    load_certificates,
    load_credential,
    with_attribute_certificate,
)
from fastsec.pki.roles import UserRoleInfo
from fastsec.pki.trial_roles import TrialAttributeAuthority, role_infos
from role_world import attribute_authority, token


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """A trial authority, an attribute authority ``ops``, and a device ``dev``."""
    run("init", tmp_path / "pki")
    run("init-roles", tmp_path / "pki", "ops")
    run("issue", tmp_path / "pki", "dev", "--osi", "1.1.1.999.2:12")
    return tmp_path / "pki"


def test_roles_in_a_certificate(pki: Path) -> None:
    run("issue", pki, "one", "--osi", "1.1.1.999.3:1", "--role", "OPERATOR", "--role", "-7", "--area", "North",
        "--role-revision", 4, "--role-definition", "mine")  # fmt: skip
    (der,) = load_certificates(pki / "one.e2e.pem")
    assert Certificate(der).user_roles == (UserRoleInfo((1, -7), "North", 4, "mine"),)


def test_a_token_and_its_owner(pki: Path) -> None:
    run("issue-roles", pki, "ops", "dev", "--role", "ENGINEER", "--hours", 3)
    token, more = load_attribute_certificate(pki / "dev.roles.pem")
    assert token.user_roles == (UserRoleInfo((2,)),)
    assert not more
    assert token.not_after_ms - time.time() * 1000 == pytest.approx(3 * 3_600_000, abs=60_000)
    own = with_attribute_certificate(load_credential(pki / "dev.e2e.pem", pki / "dev.e2e.key"), pki / "dev.roles.pem")
    assert own.attribute_certificate == token
    assert own.cert_path == ()
    run("issue-roles", pki, "ops", "dev", "--role", "VIEWER", "--chain", "--by-name", "--no-revocation")
    own = with_attribute_certificate(load_credential(pki / "dev.e2e.pem", pki / "dev.e2e.key"), pki / "dev.roles.pem")
    assert own.attribute_certificate is not None
    assert own.attribute_certificate.no_revocation
    assert own.attribute_certificate.holder_issuer is None
    assert own.cert_path == load_certificates(pki / "ops.aa.pem")
    assert sorted(path.name for path in pki.iterdir() if path.stat().st_mode & 0o77 == 0) == [
        "dev.e2e.key",
        "ops.aa.key",
        "root.key",
    ]


def test_of_another_holder(pki: Path) -> None:
    run("issue", pki, "other", "--osi", "1.1.1.999.3:1")
    run("issue-roles", pki, "ops", "other", "--role", "VIEWER")
    own = load_credential(pki / "dev.e2e.pem", pki / "dev.e2e.key")
    with pytest.raises(ConfigError, match="not for the holder"):
        with_attribute_certificate(own, pki / "other.roles.pem")


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "malformed"),
        (b"\x30\x00", "malformed"),
        (b"-----BEGIN ATTRIBUTE CERTIFICATE-----\nMA*=\n-----END ATTRIBUTE CERTIFICATE-----\n", "malformed"),
        (b"-----BEGIN ATTRIBUTE CERTIFICATE-----\nMAA\n-----END ATTRIBUTE CERTIFICATE-----\n", "damaged"),
        (b"-----BEGIN ATTRIBUTE CERTIFICATE-----\nMAA=\n-----END ATTRIBUTE CERTIFICATE-----\n" * 2, "holds 2"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, octets: bytes, why: str) -> None:
    (tmp_path / "token.pem").write_bytes(octets)
    with pytest.raises(ConfigError, match=why):
        load_attribute_certificate(tmp_path / "token.pem")
    with pytest.raises(ConfigError, match="No such file"):
        load_attribute_certificate(tmp_path / "nothing.pem")


def test_revoked(pki: Path) -> None:
    run("issue-roles", pki, "ops", "dev", "--role", "ENGINEER")
    run("revoke-roles", pki, "ops", "dev")
    crl = x509.load_pem_x509_crl((pki / "ops.aa.crl.pem").read_bytes())
    serial = int.from_bytes(load_attribute_certificate(pki / "dev.roles.pem")[0].serial, "big")
    assert [entry.serial_number for entry in crl] == [serial]
    run("revoke-roles", pki, "ops", "dev")
    crl = x509.load_pem_x509_crl((pki / "ops.aa.crl.pem").read_bytes())
    assert [entry.serial_number for entry in crl] == [serial]
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 3


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("issue", "{}", "two", "--tls", "localhost", "--role", "VIEWER"), "--osi"),
        (("issue", "{}", "two", "--osi", "1.1.1:1", "--role", "ROOT"), "no role"),
        (("issue", "{}", "two", "--osi", "1.1.1:1", "--role", "70000"), "out of bounds"),
        (("issue-roles", "{}", "ops", "dev"), "which role"),
        (("issue-roles", "{}", "nobody", "dev", "--role", "VIEWER"), "no attribute authority nobody"),
        (("issue-roles", "{}", "ops", "nobody", "--role", "VIEWER"), "No such file"),
        (("issue-roles", "{}", "ops", "../dev", "--role", "VIEWER"), "a name has"),
        (("issue-roles", "{}", "../ops", "dev", "--role", "VIEWER"), "a name has"),
        (("issue-roles", "{}", "ops", "dev", "--role", "VIEWER", "--hours", "0"), "hours"),
        (("init-roles", "{}", "ops"), "exists already"),
        (("revoke-roles", "{}", "ops", "dev"), "No such file"),
    ],
)
def test_wrong_use(pki: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str) -> None:
    assert main([argument.replace("{}", str(pki)) for argument in arguments]) == 1
    assert why in capsys.readouterr().err


def test_a_token_of_another_authority_is_not_revoked(pki: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("init-roles", pki, "two")
    run("issue-roles", pki, "two", "dev", "--role", "VIEWER")
    assert main(["revoke-roles", str(pki), "ops", "dev"]) == 1
    assert "another attribute authority" in capsys.readouterr().err


# --- what others say of our attribute certificates --------------------------------------------------------------------

INFOS = role_infos(["OPERATOR", "SECAUD"], ["North"], 3)


class _Info(core.Sequence):  # type: ignore[misc]
    class _Roles(core.SequenceOf):  # type: ignore[misc]
        _child_spec = core.Integer

    _fields = [  # noqa: RUF012 — as asn1crypto wants it
        ("roles", _Roles),
        ("aor", core.UTF8String),
        ("revision", core.Integer),
        ("definition", core.UTF8String),
    ]


class _Infos(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Info


@pytest.mark.parametrize("by", ["certificate", "name"])
@pytest.mark.parametrize("key", ["p256", "rsa2048", "brainpool"])
def test_asn1crypto_reads_the_same(by: str, key: str) -> None:
    made = TrialAttributeAuthority.create(authority("one"), f"oracle{key}", key=key)
    made.utc_ms = UTC
    holder = Certificate(credential(CLIENT).certificate)
    der = made.issue(holder.der, INFOS, named=CLIENT if by == "name" else None, revocable=by == "name")
    ours = AttributeCertificate(der)
    other = cms.AttributeCertificateV2.load(der, strict=True)
    info = other["ac_info"]
    assert info["version"].native == "v2"
    assert info["serial_number"].contents == ours.serial
    assert info["issuer"].chosen["issuer_name"][0].chosen.untag().dump() == ours.issuer
    period = info["att_cert_validity_period"]
    assert period["not_before_time"].native.timestamp() * 1000 == ours.not_before_ms
    assert period["not_after_time"].native.timestamp() * 1000 == ours.not_after_ms
    if by == "certificate":
        base = info["holder"]["base_certificate_id"]
        assert base["issuer"][0].chosen.untag().dump() == holder.issuer == ours.holder_issuer
        assert base["serial"].contents == holder.serial == ours.holder_serial
    else:
        assert info["holder"]["entity_name"][0].chosen.native == CLIENT.oid
    (attribute,) = info["attributes"]
    assert attribute["type"].native == "1.0.62351.8.1"
    (value,) = _Infos.load(attribute["values"][0].dump(), strict=True).native
    assert value == {"roles": [1, 5], "aor": "North", "revision": 3, "definition": "IEC62351-8"}
    found = [extension["extn_id"].dotted for extension in info["extensions"]]
    assert found == ["2.5.29.35"] + (["2.5.29.56"] if by == "certificate" else [])
    assert info.dump() == ours.tbs


def test_cryptography_verifies_the_signature() -> None:
    ours = AttributeCertificate(token(CLIENT))
    public = x509.load_der_x509_certificate(attribute_authority().certificate).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(ours.signature, ours.tbs, ec.ECDSA(SHA256()))


def test_openssl_shows_it(tmp_path: Path) -> None:
    (tmp_path / "token.der").write_bytes(token(CLIENT, INFOS))
    shown = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER", "-in", os.fspath(tmp_path / "token.der")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "1.0.62351.8.1" in shown
    assert "UTF8STRING        :North" in shown


def test_pyhankos_validator_takes_it(pki: Path) -> None:
    """RFC 5755 by somebody else; and it refuses a token whose signature was changed."""
    run("issue-roles", pki, "ops", "dev", "--role", "ENGINEER", "--no-revocation")

    def der(name: str) -> bytes:
        octets: bytes = pem.unarmor((pki / name).read_bytes())[2]
        return octets

    authority_, holder = (x509_.Certificate.load(der(name)) for name in ("ops.aa.pem", "dev.e2e.pem"))

    def judged(octets: bytes) -> Any:
        context = ValidationContext(
            trust_roots=[x509_.Certificate.load(der("root.pem"))], other_certs=[authority_], revocation_mode="soft-fail"
        )
        token = cms.AttributeCertificateV2.load(octets)
        return asyncio.run(async_validate_ac(token, context, holder_cert=holder))

    found = judged(der("dev.roles.pem"))
    assert found.aa_cert.dump() == der("ops.aa.pem")
    assert "1.0.62351.8.1" in found.approved_attributes
    changed = bytearray(der("dev.roles.pem"))
    changed[-1] ^= 1
    with pytest.raises(Exception, match="signature"):
        judged(bytes(changed))
