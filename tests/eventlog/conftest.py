"""Certificates for the collector and for whoever sends to it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from collector import Collector

from fastsec.aio.tls import TLSConfig
from fastsec.pki.trial import TrialAuthority


@pytest.fixture(scope="session")
def log_pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a trial authority, the collector's certificate and that of a sender."""
    directory = tmp_path_factory.mktemp("logpki") / "trial"
    made = TrialAuthority.create(directory, time.time_ns() // 1_000_000)
    for name in ("collector", "sender"):
        made.issue_tls(name, ["localhost", "127.0.0.1"])
    return directory


@pytest.fixture
def sender(log_pki: Path) -> TLSConfig:
    """TLS of the sending side."""
    return TLSConfig(
        log_pki / "sender.tls.pem", log_pki / "sender.tls.key", [log_pki / "root.pem"], server_hostname="localhost"
    )


@pytest.fixture
def collector_context(log_pki: Path) -> ssl.SSLContext:
    """TLS of the collector; it wants a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(log_pki / "collector.tls.pem", log_pki / "collector.tls.key")
    context.load_verify_locations(log_pki / "root.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture
def collector(collector_context: ssl.SSLContext) -> Iterator[Collector]:
    """A collector on loopback."""
    made = Collector(collector_context)
    yield made
    made.close()
