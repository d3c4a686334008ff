"""Credentials: what fits together is loaded, what does not is named."""

from __future__ import annotations

from pathlib import Path

import pki_forge as forge
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from pki_forge import NOW, OSI

from fastsec import profile
from fastsec._core.pk import PrivateKey
from fastsec.errors import ConfigError, LocalError
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import (
    Credential,
    Signer,
    SoftwareSigner,
    load_certificates,
    load_credential,
    load_crls,
    load_trust,
    make_credential,
)
from fastsec.pki.path import TrustStore
from fastsec.pki.trial import TrialAuthority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TrialAuthority:
    made = TrialAuthority.create(tmp_path_factory.mktemp("pki"), NOW)
    made.issue_e2e("ied1", OSI)
    made.issue_e2e("ied2", OSI)
    made.issue_e2e("rsa", OSI, key="rsa2048")
    made.issue_tls("ied1", ["localhost"])
    return made


def folder(authority: TrialAuthority) -> Path:
    assert authority.directory is not None
    return authority.directory


def test_load(authority: TrialAuthority) -> None:
    directory = folder(authority)
    for name, algorithm in (("ied1", profile.ECDSA_SHA256), ("rsa", profile.SHA256_RSA)):
        credential = load_credential(directory / f"{name}.e2e.pem", directory / f"{name}.e2e.key")
        assert credential.name == OSI
        assert credential.cert_path == ()
        assert credential.signer.algorithm == algorithm
        assert isinstance(credential.signer, Signer)
        signature = credential.signer.sign(b"data")
        Certificate(credential.certificate).public_key.verify(algorithm, b"data", signature)
        trust = TrustStore(load_certificates(directory / "root.pem"), load_crls(directory / "root.crl.pem"))
        assert trust.validate(credential.certificate, credential.cert_path, NOW).warnings == ()


def test_path_in_the_file(tmp_path: Path) -> None:
    root = forge.root()
    middle = forge.intermediate(root)
    key = forge.builder.generate_key("p256")
    leaf = forge.leaf(middle, key=key)
    pems = [forge_pem(der) for der in (leaf, middle.certificate, root.certificate)]
    (tmp_path / "chain.pem").write_bytes(b"some text\n" + b"\n".join(pems))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "key.pem").write_bytes(secret)
    credential = load_credential(tmp_path / "chain.pem", tmp_path / "key.pem", b"secret")
    assert credential.cert_path == (middle.certificate,)
    assert TrustStore([root.certificate]).validate(leaf, credential.cert_path, NOW).names == {OSI.oid}
    with pytest.raises(ConfigError):
        load_credential(tmp_path / "chain.pem", tmp_path / "key.pem")
    (tmp_path / "leaf.der").write_bytes(leaf)
    assert load_credential(tmp_path / "leaf.der", tmp_path / "key.pem", b"secret").cert_path == ()


def forge_pem(der: bytes) -> bytes:
    import base64

    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def test_what_does_not_fit(authority: TrialAuthority) -> None:
    directory = folder(authority)
    for certificate, key, words in (
        ("ied1.e2e.pem", "ied2.e2e.key", "does not belong"),
        ("ied1.e2e.pem", "rsa.e2e.key", "kind"),
        ("ied1.tls.pem", "ied1.tls.key", "key usage"),
        ("root.pem", "root.key", "authority"),
        ("missing.pem", "ied1.e2e.key", "missing.pem"),
        ("ied1.e2e.pem", "missing.key", "missing.key"),
        ("root.crl.pem", "ied1.e2e.key", "no certificate"),
        ("ied1.e2e.key", "ied1.e2e.key", "no certificate"),
        ("ied1.e2e.pem", "ied1.e2e.pem", "private key"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_credential(directory / certificate, directory / key)
        assert words in str(caught.value)


def test_no_identity() -> None:
    root = forge.root()
    key = forge.builder.generate_key("p256")
    public = forge.builder.spki(key.public_key())
    nameless = forge.leaf(
        root,
        key=key,
        subject=forge.builder.text_name(cn="device"),
        extensions=forge.leaf_extensions(root, public, None),
    )
    signer = SoftwareSigner(PrivateKey.from_pem(pem_of(key)))
    with pytest.raises(ConfigError):
        make_credential(nameless, (), signer)
    by_registered_id = forge.leaf(root, key=key, subject=forge.builder.text_name(cn="device"))
    assert make_credential(by_registered_id, (), signer).name == OSI
    with pytest.raises(ConfigError):
        make_credential(by_registered_id, [b"x"] * 5, signer)
    with pytest.raises(ConfigError):
        make_credential(by_registered_id, [bytes(16_385)], signer)


def pem_of(key: forge.builder.PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import NoEncryption

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Elsewhere:
    """A signer that is not ours, like a smart card."""

    algorithm = profile.ECDSA_SHA256
    kind = "secp256r1"

    def __init__(self, key: PrivateKey) -> None:
        self.inner = key
        self.calls = 0

    def sign(self, data: bytes) -> bytes:
        self.calls += 1
        return self.inner.sign(self.algorithm, data)


def test_another_signer() -> None:
    root = forge.root()
    key = forge.builder.generate_key("p256")
    signer = Elsewhere(PrivateKey.from_pem(pem_of(key)))
    credential: Credential = make_credential(forge.leaf(root, key=key), (), signer)
    assert signer.calls == 1
    assert credential.signer is signer
    with pytest.raises(LocalError):
        PrivateKey.from_pem(pem_of(key)).sign(profile.SHA256_RSA, b"data")


def test_trust_from_files(tmp_path: Path, authority: TrialAuthority) -> None:
    directory = folder(authority)
    other = forge.root("other")
    (tmp_path / "other.pem").write_bytes(forge_pem(other.certificate))
    trust = load_trust(directory / "root.pem", tmp_path / "other.pem", crls=[directory / "root.crl.pem"])
    assert {anchor.der for anchor in trust.anchors} == {authority.root, other.certificate}
    leaf = load_certificates(directory / "ied1.e2e.pem")[0]
    assert trust.validate(leaf, (), NOW).warnings == ()
    assert len(trust.validate(forge.leaf(other), (), NOW).warnings) == 1
    for anchors, crls in (
        ((), ()),
        ((directory / "ied1.e2e.pem",), ()),
        ((directory / "root.crl.pem",), ()),
        ((directory / "root.pem",), (directory / "root.pem",)),
    ):
        with pytest.raises(ConfigError):
            load_trust(*anchors, crls=crls)


def test_files(tmp_path: Path, authority: TrialAuthority) -> None:
    directory = folder(authority)
    (tmp_path / "two.pem").write_bytes((directory / "root.crl.pem").read_bytes() * 2)
    assert load_crls(tmp_path / "two.pem") == (authority.crl,) * 2
    (tmp_path / "crl.der").write_bytes(authority.crl)
    assert load_crls(tmp_path / "crl.der") == (authority.crl,)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "bad.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
    for name in ("empty", "bad.pem", "large", "."):
        with pytest.raises(ConfigError) as caught:
            load_certificates(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
