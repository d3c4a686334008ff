"""Themes of IEC TS 62351-100-3 about certificates: authentication, keys, pinning, revocation; foreign peers."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tlsends import pair
from tlsfiles import DAY, usage
from tlspeers import OPENSSL, WAIT, Pki, dial, made, names, needs_openssl, process, s_client

from fastsec.aio.tls import TLSConfig, TLSRules
from fastsec.errors import Aborted, ConfigError
from fastsec.pki.credential import load_certificates


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    """An authority with EC and RSA leaves."""
    made_ = Pki(tmp_path_factory.mktemp("conformance"), "root")
    made_.issue("server")
    made_.issue("client")
    made_.odd("rsa", rsa.generate_private_key(65537, 2048))
    return made_


# --- mutual authentication ------------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.event("IEC62351-3:1.6")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_authentication_negative_no_certificate(run, pki, version) -> None:
    async def main() -> None:
        events = []
        await s_client(pki.config("server", sink=events.append), pki, version, name="")
        assert names(events) == ["TLS_NO_PEER_CERT"]

    run(main(), seconds=60)


@pytest.mark.event("IEC62351-3:1.7")
def test_authentication_negative_no_certificate_of_our_own(pki, tmp_path) -> None:
    events = []
    with pytest.raises(ConfigError):
        TLSConfig(tmp_path / "none.pem", tmp_path / "none.key", [pki.anchor], sink=events.append)
    assert names(events) == ["TLS_NO_LOCAL_CERT"]


def leaf(kind: str, pki: Pki, other: Pki) -> tuple[Path, Path]:
    """Files of a certificate with this fault."""
    key = ec.generate_private_key(ec.SECP256R1())
    eku = x509.ExtendedKeyUsage
    if kind == "foreign":
        return other.odd(kind, key)
    if kind == "self-signed":
        self_ = Pki(other.folder, "self")
        return self_.odd(kind, self_.key, issuer=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, kind)]))
    if kind == "forged":
        return other.odd(kind, key, issuer=pki.subject)
    if kind == "wrong algorithm":
        paths = other.odd(kind, key, issuer=pki.subject)
        der = bytearray(load_certificates(paths[0])[0])
        der[der.rindex(bytes.fromhex("2a8648ce3d040302")) + 7] = 3  # SHA-384 outside, SHA-256 inside
        paths[0].write_text(ssl.DER_cert_to_PEM_cert(bytes(der)))
        return paths
    if kind == "rsa1024":
        return pki.odd(kind, rsa.generate_private_key(65537, 1024))
    if kind == "p224":  # no leaf of that kind gets through a handshake, but an authority may have such a key
        return below_authority(pki, kind, ec.generate_private_key(ec.SECP224R1()))
    if kind == "sha1":
        return by_command(pki, kind, "ec", "-sha1")
    if kind == "huge":
        padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), bytes(8192))
        return pki.odd(kind, key, extensions=[(padding, False)])
    if kind == "critical":
        odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.2"), b"\x05\x00")
        return pki.odd(kind, key, extensions=[(odd, True)])
    if kind == "purpose":
        return pki.odd(kind, key, extensions=[(eku([ExtendedKeyUsageOID.CODE_SIGNING]), False)])
    if kind == "usage":
        return pki.odd(kind, key, extensions=[(usage("crl_sign"), True)])
    span = {"expired": (-2 * DAY, -DAY), "early": (DAY, 2 * DAY)}[kind]
    return pki.odd(kind, key, start=span[0], end=span[1])


def below_authority(pki: Pki, kind: str, key) -> tuple[Path, Path]:
    """A leaf below an intermediate authority that has ``key``."""
    ca = [(x509.BasicConstraints(ca=True, path_length=None), True)]
    middle = pki.odd(f"{kind}-authority", key, extensions=ca)
    sub = Pki(pki.folder, f"{kind}-unused")
    sub.key = key
    sub.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{kind}-authority")])
    paths = sub.odd(kind, ec.generate_private_key(ec.SECP256R1()))
    paths[0].write_bytes(paths[0].read_bytes() + middle[0].read_bytes())
    return paths


def by_command(pki: Pki, kind: str, key: str, digest: str) -> tuple[Path, Path]:
    """A leaf that only the command line still makes."""
    pki.write("authority", pki.certificate, pki.key)
    new = ["-newkey", key] if key != "ec" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    where = pki.folder / kind
    for command in (
        ["req", "-new", *new, "-nodes", "-subj", f"/CN={kind}", "-keyout", f"{where}.key", "-out", f"{where}.csr"],
        ["x509", "-req", "-in", f"{where}.csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial",
         "-days", "2", digest, "-out", f"{where}.pem"],
    ):  # fmt: skip
        subprocess.run([OPENSSL, *command], cwd=pki.folder, check=True, capture_output=True)
    return Path(f"{where}.pem"), Path(f"{where}.key")


BAD = {
    "foreign": "IEC62351-3:2.2",
    "self-signed": "IEC62351-3:2.2",
    "forged": "IEC62351-3:2.10",
    "wrong algorithm": "IEC62351-3:2.10",
    "rsa1024": "IEC62351-3:2.11",
    "p224": "IEC62351-3:2.13",
    "sha1": "IEC62351-3:2.14",
    "huge": "IEC62351-3:2.1",
    "critical": "IEC62351-9:2.12",
    "purpose": "IEC62351-9:2.24",
    "usage": "IEC62351-9:2.24",
    "expired": "IEC62351-3:2.8",
    "early": "IEC62351-9:2.7",
}


@needs_openssl
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.event(wanted)) for kind, wanted in BAD.items()])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_certificates_negative_of_a_client(run, pki, tmp_path, kind, version) -> None:
    paths = leaf(kind, pki, Pki(tmp_path, "other"))

    async def main() -> None:
        events = []
        server = pki.config("server", sink=events.append)
        own = ("-cert", str(paths[0]), "-key", str(paths[1]), "-cipher", "DEFAULT:@SECLEVEL=0")
        if kind == "p224":
            own += ("-cert_chain", "p224-authority.pem")
        await s_client(server, pki, version, *own, name="")
        assert [event.id for event in events] == [BAD[kind]]
        assert events[0].peer.startswith("127.0.0.1:")

    run(main(), seconds=60)


@needs_openssl
@pytest.mark.parametrize("kind", ["foreign", "forged", "rsa1024", "p224", "huge", "purpose", "expired"])
@pytest.mark.event("IEC62351-9:2.23")
def test_certificates_negative_of_a_server(run, pki, tmp_path, kind) -> None:
    other = Pki(tmp_path, "other")

    async def one(kind: str) -> list[str]:
        paths = leaf(kind, pki, other)
        events = []
        command = (
            OPENSSL, "s_server", "-accept", "127.0.0.1:0", "-cert", str(paths[0]), "-key", str(paths[1]),
            "-cipher", "DEFAULT:@SECLEVEL=0", *(("-cert_chain", "p224-authority.pem") if kind == "p224" else ()),
        )  # fmt: skip
        async with process(*command, folder=pki.folder) as peer:
            line = b""
            while not line.startswith(b"ACCEPT"):
                line = await asyncio.wait_for(peer.stdout.readline(), WAIT)
            near = await dial(pki.config("client", sink=events.append), int(line.rpartition(b":")[2]))
            assert isinstance(await asyncio.wait_for(near.lost, WAIT), Aborted)
        return [event.id for event in events]

    async def main() -> None:
        assert await one(kind) == [BAD[kind].replace("2.24", "2.23")]
        if kind != "purpose":
            assert await one("purpose") == ["IEC62351-9:2.23"]

    run(main(), seconds=90)


@needs_openssl
@pytest.mark.event("IEC62351-3:2.9")
def test_signature_algorithms_negative(run, pki) -> None:
    """The client verifies RSA only, our key is an EC one."""

    async def main() -> None:
        events = []
        server = pki.config("server", sink=events.append)
        await s_client(server, pki, "-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256", name="rsa")
        assert "TLS_SIG_ALG_MISMATCH" in names(events)

    run(main(), seconds=60)


@pytest.mark.event("IEC62351-9:2.16")
def test_certificates_negative_another_name(run, pki) -> None:
    async def main() -> None:
        events = []
        client = pki.config("client", server_hostname="elsewhere.example", sink=events.append)
        async with pair(pki.config("server"), client) as (near, _):
            assert isinstance(await near.lost, Aborted)
        assert [event.id for event in events] == ["IEC62351-9:2.16"]

    run(main())


@needs_openssl
@pytest.mark.event("IEC62351-3:2.12", "IEC62351-3:2.13")
def test_keys_of_1024_bits_where_they_are_allowed(run, pki, tmp_path) -> None:
    paths = leaf("rsa1024", pki, pki)
    short = by_command(pki, "rsa768", "rsa:768", "-sha256")

    async def main() -> None:
        events = []
        server = pki.config("server", rules=TLSRules(rsa_bits_min=1024), sink=events.append)
        weak = ("-cipher", "DEFAULT:@SECLEVEL=0")
        await s_client(server, pki, "-cert", str(paths[0]), "-key", str(paths[1]), *weak, name="", say=b"warned\n")
        assert names(events) == ["TLS_MIN_KEY", "TLS_HS_SUCCESS"]
        events.clear()
        await s_client(server, pki, "-cert", str(short[0]), "-key", str(short[1]), *weak, name="")
        assert names(events) == ["TLS_SHORT_KEY"]

    run(main(), seconds=90)


@needs_openssl
@pytest.mark.event("IEC62351-9:2.19")
def test_strict_usage(run, pki) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    extensions = [
        (usage("digital_signature"), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
    ]
    pki.odd("proper", key, extensions=extensions)

    async def main() -> None:
        events = []
        server = pki.config("server", rules=TLSRules(strict_usage=True), sink=events.append)
        await s_client(server, pki, name="proper", say=b"proper\n")
        assert names(events) == ["TLS_HS_SUCCESS"]
        events.clear()
        await s_client(server, pki)
        assert [event.id for event in events] == ["IEC62351-9:2.19"]

    run(main(), seconds=60)


# --- trusted individual certificates --------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.event("IEC62351-3:2.3")
@pytest.mark.parametrize("form", ["certificate", "fingerprint", "self-signed"])
def test_pinned_certificates(run, pki, tmp_path, form) -> None:
    name = "client"
    if form == "self-signed":
        paths = leaf("self-signed", pki, Pki(tmp_path, "other"))
        der = load_certificates(paths[0])[0]
        own = ("-cert", str(paths[0]), "-key", str(paths[1]))
        name = ""
    else:
        der = load_certificates(pki.folder / "client.pem")[0]
        own = ()
    pin = x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()) if form == "fingerprint" else der

    async def main() -> None:
        events = []
        anchors = [pki.anchor] if form == "fingerprint" else []
        rules = TLSRules(trust="pinned", pinned=(pin,))
        server = pki.config("server", anchors=anchors, rules=rules, sink=events.append)
        await s_client(server, pki, *own, name=name, say=b"pinned\n")
        assert names(events) == ["TLS_HS_SUCCESS"]
        events.clear()
        pki.odd("second", ec.generate_private_key(ec.SECP256R1()))
        await s_client(server, pki, name="second")
        assert names(events) == ["TLS_NO_TRUSTED_CERT_MATCH"]

    run(main(), seconds=60)
    with pytest.raises(ConfigError, match="fingerprints"):
        pki.config("server", anchors=[], rules=TLSRules(trust="pinned", pinned=(bytes(32),)))


def test_several_anchors(run, pki, tmp_path) -> None:
    others = []
    for index in range(5):
        folder = tmp_path / str(index)
        folder.mkdir()
        other = Pki(folder, f"other {index}")
        other.issue("client")
        others.append(other)

    async def main() -> None:
        server = pki.config("server", anchors=[pki.anchor, *(other.anchor for other in others)])
        for other in others:
            async with pair(server, other.config("client", anchors=[pki.anchor])) as (near, ends):
                await near.made.wait()
                await ends[0].made.wait()

    run(main())


# --- revocation -----------------------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.event("IEC62351-3:2.4", "IEC62351-3:2.5", "IEC62351-3:2.6")
def test_revocation_lists(run, tmp_path) -> None:
    """Revoked: refused. No list, or one out of date: a warning. In order: nothing."""
    pki = Pki(tmp_path, "root")
    pki.issue("server")
    certificate = pki.issue("client")
    fine = pki.crl(name="fine")
    revoked = pki.crl(certificate, name="revoked")
    expired = pki.crl(name="expired", end=-DAY)
    other = Pki(tmp_path, "other").crl(name="other")

    async def main() -> None:
        for crl, wanted in (
            (fine, ["TLS_HS_SUCCESS"]),
            (revoked, ["TLS_CERT_REVOKED"]),
            (expired, ["TLS_CRL_EXP", "TLS_HS_SUCCESS"]),
            (other, ["TLS_NO_CRL", "TLS_HS_SUCCESS"]),
        ):
            events = []
            server = pki.config("server", crls=[crl], sink=events.append)
            await s_client(server, pki, say=b"checked\n" if "TLS_HS_SUCCESS" in wanted else b"")
            assert names(events) == wanted
            if crl == revoked:
                assert made(events, "TLS_CERT_REVOKED")["CRLReason"] == "unspecified"

    run(main(), seconds=90)
