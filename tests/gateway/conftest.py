"""Fixtures of the gateway's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds a trial authority and certificates for cc, der and other."""
    from gateway_pair import authority

    directory = tmp_path_factory.mktemp("pki") / "trial"
    authority(directory)
    return directory
