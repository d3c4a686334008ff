"""TLS on the routes of a gateway pair (62351-3): new handshakes, revocation, reload, separate certificates."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from gateway_pair import CC, TLS, Pair, authority, gateways, run, until
from gateway_pair import confirmed as request

from fastsec.aio import tls_renewal
from fastsec.aio.tls import TLSLayer
from fastsec.errors import ConfigError, FastsecError
from fastsec.gateway import material, settings, tls_settings
from fastsec.gateway.logs import Log
from fastsec.pki import builder, oids
from fastsec.pki.credential import load_certificates

OFTEN = "renewal = 0.5\nresumption = 0.2\n"


@pytest.fixture
def pki(tmp_path_factory):
    return tmp_path_factory.mktemp("pki")


@pytest.fixture
def often(monkeypatch) -> None:
    """Handshakes anew may come as often as a test needs."""
    monkeypatch.setattr(tls_settings, "LEAST", 0.1)
    monkeypatch.setattr(tls_renewal, "GAP", 0.0)


def layers(pair: Pair) -> list[TLSLayer]:
    """The TLS connections of both gateways."""
    found = []
    for route in (pair.cc_route, pair.der_route):
        for bridge in route.bridges:
            for end in (bridge.incoming, bridge.outgoing):
                transport = end.connection.transport if end is not None and end.connection is not None else None
                if isinstance(transport, TLSLayer):
                    found.append(transport)
    return found


@pytest.mark.parametrize("reverse", [False, True])
def test_twenty_thousand_pdus_through_a_pair(pki, often, reverse) -> None:
    """10,000 requests and their answers while the hop begins anew again and again: all there, in order."""
    count = 10_000

    async def main() -> None:
        async with gateways(pki, tls=True, reverse=reverse, cc_head=OFTEN, der_head=OFTEN) as pair:
            stream = await pair.client()
            await pair.open_bridges(1)
            assert len(layers(pair)) == 2
            got: list[bytes] = []

            async def receive() -> None:
                while True:
                    got.append(await stream.recv())

            reader = asyncio.create_task(receive())
            sent = 0
            while sent < count or min(layer.renewals for layer in layers(pair)) < 3:
                for _ in range(20):
                    await stream.send(request(sent))
                    sent += 1
                if sent - len(got) > 2000:
                    await until(lambda enough=sent - 1000: len(got) > enough, 30)
                await asyncio.sleep(0.001)
            await until(lambda: len(got) >= sent, 30)
            reader.cancel()
            assert got == [b"\xa1" + request(number)[1:] for number in range(sent)]
            await stream.release()

    run(main(), 110)


@pytest.mark.event("IEC62351-3:1.8")
def test_a_peer_that_is_revoked_meanwhile(pki) -> None:
    """The list file changes; nobody reloads: the open association ends, and none comes about any more."""

    async def main() -> None:
        made = authority(pki)
        async with gateways(pki, tls=True, der_head='crls = ["root.crl.pem"]\n') as pair:
            stream = await pair.client()
            await pair.open_bridges(1)
            made.utc_ms = time.time_ns() // 1_000_000 + 1000
            made.revoke(load_certificates(pki / "cc.tls.pem")[0])
            pair.der._loaded.keeper.service.refresh()
            await until(lambda: not pair.der_route.bridges, 30)
            assert "TLS_SESSION_CLOSED_REV" in pair.records.events()
            await until(lambda: not pair.cc_route.bridges, 30)
            stream.abort()

    run(main(), 90)


def test_a_reload_reaches_open_connections(pki, monkeypatch) -> None:
    """SIGHUP with a renewed TLS certificate: the open association goes on under it."""
    monkeypatch.setattr(tls_renewal, "SPREAD", 0.2)

    async def main() -> None:
        made = authority(pki)
        async with gateways(pki, tls=True) as pair:
            stream = await pair.client()
            await pair.open_bridges(1)
            for name in ("cc.tls.pem", "cc.tls.key"):
                (pki / name).rename(pki / f"old {name}")
            made.issue_tls("cc", ["localhost", "127.0.0.1"])
            before = {layer: layer.get_extra_info("peer_certificate") for layer in layers(pair)}
            assert pair.cc.reload()
            await until(lambda: all(layer.renewals for layer in layers(pair)), 30)
            after = [layer.get_extra_info("peer_certificate") for layer in before]
            assert sum(one != other for one, other in zip(before.values(), after, strict=True)) == 1
            await stream.send(request(1))
            assert await stream.recv() == b"\xa1" + request(1)[1:]
            await stream.release()

    run(main(), 90)


@pytest.mark.event("IEC62351-3:1.11")
def test_a_pair_without_new_handshakes_ends_at_the_limit(pki, often) -> None:
    """Released on all four sides; a client that comes again gets a new association."""

    async def main() -> None:
        head = "rehandshake = false\nlimit = 2\nrenewal = 1\nresumption = 0.5\n"
        async with gateways(pki, tls=True, cc_head=head, der_head=head) as pair:
            stream = await pair.client()
            await pair.open_bridges(1)
            await until(lambda: not pair.cc_route.bridges and pair.der_route.associations == 0, 30)
            assert await stream.recv() == b""
            assert "TLS_NO_RENEG" in pair.records.events()
            again = await pair.client()
            await again.release()

    run(main(), 90)


def loads(pki, tls: str, name: str = "cc") -> str:
    """What is wrong with a configuration that has this ``[tls]`` table."""
    text = (
        f'[identity]\ncertificate = "{name}.e2e.pem"\nkey = "{name}.e2e.key"\n[trust]\nanchors = ["root.pem"]\n'
        f'{tls}[[route]]\nrole = "server"\nlisten = "127.0.0.1:3782"\nconnect = "127.0.0.1:102"\npeers = "any"\n'
    )
    try:
        material.load(settings.parse(text, pki / "x.toml"), lambda route: Log().event)
    except ConfigError as error:
        return str(error)
    return ""


def issue_for_both(pki) -> None:
    """``both.e2e``: a certificate that TLS could use too. (OpenSSL cannot read Annex G's form of subject.)"""
    extensions = (
        builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT),
        builder.alternative_names(osi=CC),
    )
    authority(pki).issue("both.e2e", builder.text_name(o="test", cn="both"), extensions, "p256", 30)


def test_one_key_for_both_is_refused(pki) -> None:
    """By what is in the files: a copy under another name, and another certificate with the same key."""
    made = authority(pki)
    issue_for_both(pki)
    head = '[tls]\nanchors = ["root.pem"]\n'
    assert loads(pki, TLS.format(name="cc")) == ""
    for suffix in ("pem", "key"):
        os.link(pki / f"both.e2e.{suffix}", pki / f"copy.{suffix}")
    assert "Annex G" in loads(pki, head + 'certificate = "copy.pem"\nkey = "copy.key"\n', "both")
    key = load_pem_private_key((pki / "both.e2e.key").read_bytes(), None)
    like = x509.load_pem_x509_certificate((pki / "cc.tls.pem").read_bytes())
    other = (
        x509.CertificateBuilder().subject_name(like.subject).issuer_name(like.issuer).public_key(key.public_key())
        .serial_number(7).not_valid_before(like.not_valid_before_utc).not_valid_after(like.not_valid_after_utc)
        .sign(made._key, hashes.SHA256())
    )  # fmt: skip
    (pki / "other.pem").write_bytes(other.public_bytes(Encoding.PEM))
    assert "Annex G" in loads(pki, head + 'certificate = "other.pem"\nkey = "copy.key"\n', "both")


@pytest.mark.event("IEC62351-3:2.3")
def test_a_peer_with_one_certificate_for_both_is_refused(pki) -> None:
    """The other side sees it when the end-to-end certificate is verified; the association does not come about."""

    async def main() -> None:
        authority(pki).issue_tls("both", ["localhost"])
        issue_for_both(pki)
        async with gateways(pki, tls=True, cc_name="both") as pair:
            tls = pair.cc_route._tls  # what no gateway would load by itself
            tls.client_context.load_cert_chain(pki / "both.e2e.pem", pki / "both.e2e.key")
            with pytest.raises(FastsecError):
                await pair.client()
            await until(lambda: "TLS_NO_TRUSTED_CERT_MATCH" in pair.records.events(), 30)
            await until(lambda: not pair.cc_route.bridges, 30)

    run(main(), 90)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('resumption = "13h"\nrenewal = "12h"\n', "in this order"),
        ('renewal = "12h"\nlimit = "6h"\n', "in this order"),
        ("rsa_bits = 1536\n", "1024 with a warning"),
        ("pinned = []\n", "lets nobody in"),
        ('pinned = ["sha256:abc"]\n', "64 hexadecimal digits"),
        ('suites = ["TLS_RSA_WITH_NULL_SHA"]\n', "write one of"),
    ],
)
def test_settings_that_cannot_be(pki, line, complaint) -> None:
    authority(pki)
    assert complaint in loads(pki, TLS.format(name="cc") + line)


def test_pinned_in_the_configuration(pki) -> None:
    authority(pki)
    head = '[tls]\ncertificate = "cc.tls.pem"\nkey = "cc.tls.key"\n'
    assert loads(pki, head + 'pinned = ["der.tls.pem"]\n') == ""
    assert "anchors" in loads(pki, head + f'pinned = ["sha256:{"ab" * 32}"]\n')
    assert loads(pki, head + f'anchors = ["root.pem"]\npinned = ["sha256:{"ab" * 32}", "der.tls.pem"]\n') == ""
    assert "no such file" in loads(pki, head + 'pinned = ["none.pem"]\n')
