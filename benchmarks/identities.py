"""Trial credentials of the benchmark's processes: one server, any number of clients, in one folder."""

from __future__ import annotations

import time
from pathlib import Path

import fastsec
import plain
from fastsec.pki.credential import load_certificates, load_crls
from fastsec.pki.trial import TrialAuthority

INITIATE = plain.PDU["aarq"][-40:]
RESPONSE = plain.PDU["aare"][-40:]
SERVER = fastsec.OsiName("1.1.1.999.2", 1)


def make(folder: Path, clients: int) -> None:
    """Write the PKI."""
    authority = TrialAuthority.create(folder, time.time_ns() // 1_000_000)
    authority.issue_e2e("server", SERVER)
    for number in range(clients):
        authority.issue_e2e(f"client{number}", fastsec.OsiName("1.1.1.999.1", number))


def config(folder: Path, name: str) -> fastsec.Config:
    """The configuration of one of them: AES-128-GCM, the default policy."""
    return fastsec.Config(
        credential=fastsec.load_credential(folder / f"{name}.e2e.pem", folder / f"{name}.e2e.key"),
        trust=fastsec.TrustStore(load_certificates(folder / "root.pem"), load_crls(folder / "root.crl.pem")),
        sink=lambda event: None,
    )
