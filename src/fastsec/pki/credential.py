"""What an endpoint proves itself with: certificate, path, and a signer that may live in another place."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from fastsec import limits, profile
from fastsec._core.pk import PrivateKey
from fastsec.errors import ConfigError, PeerError
from fastsec.pki.attribute import AttributeCertificate
from fastsec.pki.certificate import Certificate
from fastsec.pki.identity import OsiName
from fastsec.pki.path import Binding, TrustStore
from fastsec.pki.revocation import Revocations

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s*([A-Za-z0-9+/=\s]*?)-----END \1-----")
_FILE_MAX = 1 << 20
_CRL_FILE_MAX = 96 << 20  # 64 MiB as PEM
_PIECE = 64 * 1024


@runtime_checkable
class Signer(Protocol):
    """Signs with a private key, here or elsewhere.

    ``sign`` may block and may be called by several threads at once; it is always called in a worker thread. A signer
    may have an attribute ``executor`` (``concurrent.futures.Executor``) on which its calls then run, e.g. one thread
    for a smart card.
    """

    @property
    def algorithm(self) -> str:
        """The signature algorithm, dotted: sha256WithRSAEncryption or ecdsa-with-SHA256."""
        ...

    @property
    def kind(self) -> str:
        """``rsa``, ``secp256r1`` or ``brainpoolP256r1``."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature over data: DER SEQUENCE { r, s }, or the RSA signature of the modulus's length."""
        ...


class SoftwareSigner:
    """A signer whose key is in this process."""

    __slots__ = ("_key",)

    def __init__(self, key: PrivateKey) -> None:
        self._key = key

    @property
    def algorithm(self) -> str:
        """sha256WithRSAEncryption for RSA, else ecdsa-with-SHA256 (62351-4, both mandatory)."""
        return profile.SHA256_RSA if self._key.kind == "rsa" else profile.ECDSA_SHA256

    @property
    def kind(self) -> str:
        """The kind of key."""
        return self._key.kind

    def sign(self, data: bytes) -> bytes:
        """Sign; without the GIL."""
        return self._key.sign(self.algorithm, data)


@dataclass(frozen=True, slots=True)
class Credential:
    """An end-entity certificate and what belongs to it.

    Attributes:
        certificate: DER, at most 8192 octets.
        cert_path: DER certificates of authorities between it and the trust anchor, its issuer first.
        signer: signs with the certificate's key.
        name: the identity the certificate is for.
        attribute_certificate: sent along in handshakes while it is valid, so that the peer grants its roles
            (IEC 62351-8); see ``with_attribute_certificate``.
    """

    certificate: bytes
    cert_path: tuple[bytes, ...]
    signer: Signer
    name: OsiName
    attribute_certificate: AttributeCertificate | None = None


def make_credential(certificate: bytes, cert_path: Sequence[bytes], signer: Signer) -> Credential:
    """A Credential, after looking whether its parts fit. ConfigError says what does not.

    Arguments:
        certificate: DER of the end-entity certificate (62351-4 Annex G).
        cert_path: DER of the authorities' certificates, at most 4 with 16 KiB, any order, without the anchor.
        signer: must sign with the certificate's key; one trial signature is made.
    """
    try:
        parsed = Certificate(certificate)
        parsed.check_leaf()
    except PeerError as error:
        raise ConfigError(f"the certificate is not usable for end-to-end security: {error}") from error
    _check_path(cert_path)
    if signer.kind != parsed.public_key.kind:
        raise ConfigError(f"the key is of kind {signer.kind}, the certificate's of kind {parsed.public_key.kind}")
    try:
        parsed.public_key.verify(signer.algorithm, b"fastsec", signer.sign(b"fastsec"))
    except PeerError as error:
        raise ConfigError("the key does not belong to the certificate") from error
    names = {parsed.subject_oid} if parsed.subject_oid else set(parsed.registered_ids)
    if len(names) != 1:
        raise ConfigError("the certificate does not name one OSI identity (subject objectIdentifier or registeredID)")
    return Credential(certificate, tuple(cert_path), signer, OsiName.from_oid(names.pop()))


def _check_path(cert_path: Sequence[bytes]) -> None:
    if len(cert_path) > limits.OUR_CERT_PATH_COUNT or sum(map(len, cert_path)) > limits.OUR_CERT_PATH_MAX:
        raise ConfigError(
            f"the certification path has more than {limits.OUR_CERT_PATH_COUNT} certificates"
            f" or {limits.OUR_CERT_PATH_MAX} octets"
        )


def load_credential(
    certificate: str | os.PathLike[str], key: str | os.PathLike[str], password: bytes | None = None
) -> Credential:
    """Load a certificate with its path and a software key from files.

    Arguments:
        certificate: PEM file; the end-entity certificate first, then those of authorities (a self-issued one at the
            end, the anchor, is left out); or one certificate as DER.
        key: PEM file of the private key.
        password: of the key, or None.
    Raises: ConfigError for files that cannot be read or do not fit.
    """
    leaf, *path = load_chain(certificate)
    signer = SoftwareSigner(PrivateKey.from_pem(read_file(key), password))
    return make_credential(leaf, path, signer)


def load_chain(certificate: str | os.PathLike[str]) -> tuple[bytes, ...]:
    """The DER of the end-entity certificate of a file, then of the authorities', without a self-issued one."""
    leaf, *path = load_certificates(certificate)
    return leaf, *(der for der in path if not _self_issued(der))


def with_attribute_certificate(credential: Credential, path: str | os.PathLike[str]) -> Credential:
    """``credential`` with the attribute certificate of a file.

    Arguments:
        path: PEM file with one attribute certificate, and perhaps certificates of its issuer and of authorities above,
            which are then sent in certPath; or the attribute certificate as DER.
    Raises: ConfigError for a file that cannot be read, and for an attribute certificate of another holder.
    """
    token, more = load_attribute_certificate(path)
    if token.belongs_to(Certificate(credential.certificate)):
        raise ConfigError(f"{os.fspath(path)}: the attribute certificate is not for the holder of the certificate")
    cert_path = tuple(dict.fromkeys((*credential.cert_path, *more)))
    _check_path(cert_path)
    return replace(credential, cert_path=cert_path, attribute_certificate=token)


def load_attribute_certificate(path: str | os.PathLike[str]) -> tuple[AttributeCertificate, tuple[bytes, ...]]:
    """The attribute certificate of a file, and the DER of the certificates beside it but self-issued ones; ConfigError
    for a file that cannot be read or used."""
    octets = read_file(path)
    ders = _blocks(path, octets, b"ATTRIBUTE CERTIFICATE") or [octets]
    if len(ders) != 1:
        raise ConfigError(f"{os.fspath(path)} holds {len(ders)} attribute certificates; a handshake carries one")
    try:
        token = AttributeCertificate(ders[0])
        token.read_extensions()
    except PeerError as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from error
    return token, tuple(der for der in _blocks(path, octets, b"CERTIFICATE") if not _self_issued(der))


def load_trust(
    *anchors: str | os.PathLike[str],
    crls: Sequence[str | os.PathLike[str]] = (),
    binding: Binding = "either",
    revocation: Revocations | None = None,
) -> TrustStore:
    """A trust store from files.

    Arguments:
        anchors: PEM files with any number of trust anchors, or DER files with one.
        crls: likewise, with CRLs.
        binding, revocation: see ``TrustStore``.
    Raises: ConfigError for files that cannot be read or used.
    """
    return TrustStore(
        [der for path in anchors for der in load_certificates(path)],
        [der for path in crls for der in load_crls(path)],
        binding,
        revocation=revocation,
    )


def load_certificates(path: str | os.PathLike[str]) -> tuple[bytes, ...]:
    """The DER of every certificate of a PEM file, or of the one in a DER file; at least one, else ConfigError."""
    return _load(path, b"CERTIFICATE", "certificate")


def load_crls(path: str | os.PathLike[str]) -> tuple[bytes, ...]:
    """The DER of every CRL of a PEM file, or of the one in a DER file; at least one, else ConfigError."""
    octets = read_file(path, _CRL_FILE_MAX)
    found = list(_large_blocks(path, octets, b"X509 CRL"))
    if not found and octets[:1] == b"\x30":
        found.append(octets)
    if not found:
        raise ConfigError(f"{os.fspath(path)} holds no CRL")
    return tuple(found)


def _large_blocks(path: str | os.PathLike[str], octets: bytes, label: bytes) -> Iterator[bytes]:
    """As ``_blocks``, in small steps: a list of megabytes is read while other threads work, and neither a regular
    expression nor one call for all of it lets them in between."""
    begin, end = b"-----BEGIN " + label + b"-----", b"-----END " + label + b"-----"
    at = octets.find(begin)
    while at >= 0:
        at += len(begin)
        stop = octets.find(end, at)
        if stop < 0:
            return
        pieces, rest = [], b""
        try:
            while at < stop:
                text = rest + octets[at : min(at + _PIECE, stop)].translate(None, b" \t\r\n")
                at += _PIECE
                whole = len(text) if at >= stop else len(text) & ~3
                pieces.append(base64.b64decode(text[:whole], validate=True))
                rest = text[whole:]
        except binascii.Error as error:
            raise ConfigError(f"{os.fspath(path)}: damaged PEM") from error
        yield b"".join(pieces)
        at = octets.find(begin, stop)


def _load(path: str | os.PathLike[str], label: bytes, what: str, maximum: int = _FILE_MAX) -> tuple[bytes, ...]:
    octets = read_file(path, maximum)
    found = _blocks(path, octets, label)
    if not found and octets[:1] == b"\x30":
        found.append(octets)
    if not found:
        raise ConfigError(f"{os.fspath(path)} holds no {what}")
    return tuple(found)


def _blocks(path: str | os.PathLike[str], octets: bytes, label: bytes) -> list[bytes]:
    """The DER in the PEM blocks with this label."""
    found: list[bytes] = []
    for name, body in _PEM.findall(octets):
        if name == label:
            try:
                found.append(base64.b64decode(b"".join(body.split()), validate=True))
            except binascii.Error as error:
                raise ConfigError(f"{os.fspath(path)}: damaged PEM") from error
    return found


def read_file(path: str | os.PathLike[str], maximum: int = _FILE_MAX) -> bytes:
    """The octets of a file of at most ``maximum`` octets, default 1 MiB; ConfigError says what is wrong with it."""
    try:
        with open(path, "rb") as file:
            octets = file.read(maximum + 1)
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)}: {error.strerror}") from error
    if len(octets) > maximum:
        raise ConfigError(f"{os.fspath(path)} is larger than {maximum} octets")
    return octets


def _self_issued(der: bytes) -> bool:
    try:
        certificate = Certificate(der, ca=True)
    except PeerError as error:
        raise ConfigError(f"a certificate of the path is not usable: {error}") from error
    return certificate.self_issued
