"""Certificates of the A-profile and of TLS as files, and configurations of gateways that use them."""

from __future__ import annotations

import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from aprofile_world import AWorld, Holder
from fastsec.pki.trial import TrialAuthority

A_PROFILE = """\
[a_profile]
certificate = "{name}.mms.pem"
key = "{name}.mms.key"
anchors = ["mms-root.pem"]
crls = ["mms-root.crl.pem"]
peers = ["subject:O=Utility,CN={other}"]
{extra}
"""
TLS = """\
[tls]
certificate = "{name}.tls.pem"
key = "{name}.tls.key"
anchors = ["root.pem"]
"""
OTHER = {"cc": "der", "der": "cc"}


def write(directory: Path, world: AWorld, **holders: Holder) -> None:
    """``NAME.mms.pem`` and ``NAME.mms.key`` of each holder, the authority, its CRL, and certificates for TLS."""
    authority = TrialAuthority.create(directory, time.time_ns() // 1_000_000)
    for name, holder in holders.items():
        save(directory, name, holder)
        authority.issue_tls(name, ["127.0.0.1"])
    save_anchor(directory, world.authority.certificate)
    save_crl(directory, world)


def save(directory: Path, name: str, holder: Holder) -> None:
    certificate = x509.load_der_x509_certificate(holder.certificate)
    (directory / f"{name}.mms.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    key = directory / f"{name}.mms.key"
    key.touch(0o600)
    key.write_bytes(holder.pem)


def save_anchor(directory: Path, certificate: bytes) -> None:
    root = x509.load_der_x509_certificate(certificate)
    (directory / "mms-root.pem").write_bytes(root.public_bytes(Encoding.PEM))


def save_crl(directory: Path, world: AWorld, *serials: int) -> None:
    crl = x509.load_der_x509_crl(world.authority.crl(*serials))
    (directory / "mms-root.crl.pem").write_bytes(crl.public_bytes(Encoding.PEM))


def configuration(
    name: str, near: int, far: int, *, tls: bool = True, reverse: bool = False, extra: str = "", head: str = ""
) -> str:
    """The file of ``cc`` (plain clients at port ``near``) or ``der`` (plain server at port ``near``)."""
    text = head + A_PROFILE.format(name=name, other=OTHER[name], extra=extra)
    text += TLS.format(name=name) if tls else "without_tls = true\n" if not extra else ""
    text += '[[route]]\nname = "bay"\nsecurity = "a-profile"\n'
    plain, wire = f'"127.0.0.1:{near}"', f'"127.0.0.1:{far}"'
    if name == "cc":
        text += f'role = "client"\nlisten = {plain}\n'
        return text + (f'dial = "in"\nfar_listen = {wire}\n' if reverse else f"connect = {wire}\n")
    text += f'role = "server"\nconnect = {plain}\n'
    return text + (f'dial = "out"\nfar_connect = {wire}\n' if reverse else f"listen = {wire}\n")
