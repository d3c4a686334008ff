"""Associations over real sockets, the fast path included: inspect opens every PDU with the exported keys."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from pathlib import Path
from typing import Any

import inspect_writer as writer
import pytest
from inspect_world import anomalies, damages, records, secpdus

from fastsec.aio.keylog import KeyLogFile
from fastsec.config import Config
from fastsec.inspect.keylog import KeyLog
from interop import test_dissect

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("mode", test_dissect.POLICIES)
def test_keys_of_a_real_association(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = KeyLogFile(tmp_path / "keys.log")
    make = test_dissect.configs

    def configs(*facts: Any) -> tuple[Config, ...]:
        return tuple(dataclasses.replace(config, key_log=log) for config in make(*facts))

    monkeypatch.setattr(test_dissect, "configs", configs)
    begun = time.time_ns() // 1_000_000
    frames = asyncio.run(test_dissect.converse(tmp_path, test_dissect.POLICIES[mode], "p256"))
    log.close()
    keys = KeyLog((tmp_path / "keys.log").read_text().splitlines())
    kinds = []
    for link in test_dissect.by_link(frames):
        packets = writer.segments([(request, octets, begun) for request, octets in link], size=200)
        found = records(writer.pcap(packets), keys)
        assert not damages(found)
        assert not anomalies(found)
        assert all(pdu["opened"]["icv"] == "verified" for pdu in secpdus(found) if "token2" in pdu)
        kinds += [pdu.get("applData", {}).get("mms") for pdu in secpdus(found)]
        last = secpdus(found)[-1]["kind"]
        assert last in ("ReleaseRsp", "ApplAbort")
    assert kinds.count("confirmed-Request") == kinds.count("confirmed-Response") == 5
