"""TLS handshakes that ask a responder whether the peer is revoked (62351-9), without occupying a worker thread."""

from __future__ import annotations

import asyncio

import pytest
from revocation_world import HOUR, Http, Pki, policy
from tlsends import pair

from fastsec.aio.revocation import RevocationService
from fastsec.aio.tls import TLSConfig
from fastsec.errors import Aborted
from fastsec.pki import builder, oids
from ocsp_forge import revoked

CASES = {
    "good": ({}, ["TLS_HS_SUCCESS"]),
    "revoked": ({"status": revoked(reason=1)}, ["TLS_CERT_REVOKED"]),
    "expired": ({"delta_ms": -3 * HOUR}, ["TLS_NO_CRL", "TLS_OCSP_RES_EXP", "TLS_HS_SUCCESS"]),
}
MARKS = {"revoked": "IEC62351-3:2.4", "expired": "IEC62351-3:2.7"}


def files(pki: Pki, folder, name: str, *urls: str) -> tuple:
    extensions = [builder.key_usage(oids.KU_DIGITAL_SIGNATURE), builder.authority_info_access(*urls)]
    issued = pki.authority.issue(f"{name}.tls", builder.text_name(cn=name), extensions[: 2 if urls else 1], "p256", 30)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(issued.certificate_pem)
    key.write_bytes(issued.key_pem)
    return certificate, key


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.event(MARKS[case])] if case in MARKS else []) for case in CASES]
)
def test_a_responder_is_asked(run, tmp_path, case) -> None:
    how, wanted = CASES[case]
    events = []

    async def main() -> None:
        pki = Pki()
        anchor = tmp_path / "root.der"
        anchor.write_bytes(pki.authority.root)
        async with Http().serving() as web:
            web.answers["/ocsp"] = pki.answers(**how)
            with RevocationService(policy()) as service:
                server = TLSConfig(
                    *files(pki, tmp_path, "server", f"{web.url}/ocsp"), [anchor], revocation=service.known,
                    sink=events.append,
                )  # fmt: skip
                client = TLSConfig(*files(pki, tmp_path, "client", f"{web.url}/ocsp"), [anchor])
                async with pair(server, client, echo=True) as (near, ends):
                    if case == "revoked":
                        assert isinstance(await ends[0].lost, Aborted)
                    else:
                        await near.made.wait()
                        near.transport.write(b"x")
                        await asyncio.wait_for(near.until(1), 20)

    run(main(), seconds=60)
    assert [event.mnemonic for event in events] == wanted
    if case == "revoked":
        assert dict(events[0].params)["CRLReason"] == "keyCompromise"
