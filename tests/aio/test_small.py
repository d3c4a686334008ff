"""Addresses, the loop runner, the logging sink, the public names."""

from __future__ import annotations

import asyncio
import builtins
import logging
import subprocess
import sys

import pytest

import fastsec
from fastsec import events
from fastsec.aio import loop as loop_module
from fastsec.aio.address import parse_address
from fastsec.aio.events import LoggingSink
from fastsec.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "tls", "expected"),
    [
        ("osi://ied1:3782", True, ("ied1", 3782)),
        ("osi://ied1", True, ("ied1", 3782)),
        ("osi://ied1", False, ("ied1", 102)),
        ("10.0.0.1:10102", False, ("10.0.0.1", 10102)),
        ("osi://[::1]:0", False, ("::1", 0)),
        ("osi://[fe80::1]", True, ("fe80::1", 3782)),
        ("*:102", False, ("*", 102)),
    ],
)
def test_addresses(text, tls, expected) -> None:
    assert parse_address(text, tls=tls) == expected


@pytest.mark.parametrize(
    "text", ["", "osi://", "xmpp:a@b", "http://x:1", "osi://h:port", "h:65536", "[::1", "[::1]x", "h:-1", "::1", "h/x"]
)
def test_what_is_no_address(text) -> None:
    with pytest.raises(ConfigError, match="osi://HOST:PORT"):
        parse_address(text, tls=False)


def test_run_uses_uvloop() -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert loop_module.run(main()) == "uvloop"


def test_run_without_uvloop_warns_and_works(monkeypatch) -> None:
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "uvloop":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.warns(RuntimeWarning, match="uvloop is not installed"):
        assert loop_module.run(main()).startswith("asyncio")


@pytest.mark.parametrize(
    ("mnemonic", "level"),
    [("ENCR_BAD_ICV", logging.CRITICAL), ("ENCR_INV_SEQ_NR_TRF", logging.ERROR)],
)
def test_logging_sink(caplog, mnemonic, level) -> None:
    happened = events.named(mnemonic, peer="1.1.1.999.2:12", step="ClearToken2")
    with caplog.at_level(logging.INFO):
        LoggingSink()(happened)
    [record] = caplog.records
    assert record.levelno == level
    assert record.name == "fastsec.events"
    assert record.security_event is happened
    assert mnemonic in record.getMessage()
    assert "1.1.1.999.2:12" in record.getMessage()
    with caplog.at_level(logging.CRITICAL + 1):
        LoggingSink()(happened)
    assert len(caplog.records) == 1


def test_public_names() -> None:
    for name in fastsec.__all__:
        assert getattr(fastsec, name).__name__
        assert name in dir(fastsec)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fastsec.nothing  # noqa: B018


def test_the_import_is_light() -> None:
    heavy = "('asyncio', 'ssl', 'cryptography', 'fastsec._core')"
    code = f"import sys, fastsec; print([m for m in {heavy} if m in sys.modules])"
    path = ":".join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    assert done.stdout.strip() == "[]"
