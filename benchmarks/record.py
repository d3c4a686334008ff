"""Protect and unprotect one message: SecPDU and OSI framing included, against TLS 1.3, libcrypto and pure Python."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import harness
import raw
import tls
from fastsec import profile
from fastsec._core.crypto import Secret
from fastsec._core.cursor import Reader
from fastsec._core.guard import MODE_AE, MODE_HMAC, GuardParams, OpenGuard, SealGuard
from fastsec._core.osidata import OsiChannel
from fastsec.limits import OUR_TPDU_SIZE_PREFERRED, OUR_TSDU_MAX
from fastsec.secpdu.timestamp import time_text

SIZES = (64, 256, 1024, 4096, 16384)
BATCH = 32
ASSO_ID = "17:42"


def mms_pdu(size: int) -> bytes:
    """A confirmed-ResponsePDU of ``size`` octets in all (2 and more, below 64 KiB)."""
    for header, width in ((b"\xa1", 1), (b"\xa1\x81", 1), (b"\xa1\x82", 2)):
        body = size - len(header) - width
        if body < (0x80 if header == b"\xa1" else 1 << 8 * width):
            return header + body.to_bytes(width, "big") + bytes(body)
    raise ValueError(size)


class Line:
    """A sender and a receiver of one direction of an open association."""

    def __init__(self, mode: str) -> None:
        self.now = time.time_ns() // 1_000_000
        keys = Secret.from_bytes(bytes(range(64)))
        if mode == "ae":
            params = GuardParams(MODE_AE, ASSO_ID, b"", 16, 16, 0)
            ik, ek = None, (0, 16)
        else:
            algorithm = bytes.fromhex("300c06082a864886f70d02090500")
            params = GuardParams(MODE_HMAC, ASSO_ID, algorithm, profile.HMAC_ICV_LEN, 0, profile.HMAC_KEY_SIZE)
            ik, ek = (0, 32), None
        start = time_text(self.now - 1)
        self.sealer = SealGuard(params, keys, ik, ek, start_time=start)
        self.opener = OpenGuard(params, keys, ik, ek, start_time=start)
        self.tx, self.rx = OsiChannel(OUR_TSDU_MAX), OsiChannel(OUR_TSDU_MAX)
        self.tx.arm_tx(self.sealer, profile.CONTEXT_E2E, OUR_TPDU_SIZE_PREFERRED)
        self.rx.arm_rx(self.opener, profile.CONTEXT_E2E)

    def check(self, payload: bytes) -> None:
        """One message really arrives; otherwise the benchmark would time an error path."""
        if self.rx.feed(self.tx.seal(payload, self.now), self.now) != [payload]:
            raise RuntimeError(f"the message did not arrive: {self.rx.fault}")

    def call(self, payload: bytes) -> Callable[[int], float]:
        """A timed loop: one call seals, one call opens."""
        self.check(payload)
        seal, feed, now = self.tx.seal, self.rx.feed, self.now

        def run(n: int) -> float:
            start = time.perf_counter()
            for _ in range(n):
                feed(seal(payload, now), now)
            return time.perf_counter() - start

        return run

    def batch(self, payload: bytes) -> Callable[[int], float]:
        """A timed loop: one call seals a batch, one call opens it; ``n`` counts messages, in whole batches."""
        self.check(payload)
        seal_batch, feed, now = self.tx.seal_batch, self.rx.feed, self.now
        payloads = [payload] * BATCH

        def run(n: int) -> float:
            batches = max(1, n // BATCH)
            start = time.perf_counter()
            for _ in range(batches):
                for block in seal_batch(payloads, now):
                    feed(block, now)
            return (time.perf_counter() - start) * n / (batches * BATCH)

        return run


def authenticated_octets(mode: str, size: int) -> int:
    """Octets under the tag besides the payload (AE: the AAD), or all octets under the ICV (HMAC)."""
    line = Line(mode)
    pdu = Reader(line.sealer.seal(mms_pdu(size), line.now))
    pdu.expect(0x30)
    body = pdu.enter()
    body.expect(0x30)
    if mode == "hmac":
        return body.stop - body.start
    tbp = body.enter()
    tbp.expect(0x30)
    return tbp.stop - tbp.start


def run(report: harness.Report, full: bool) -> None:
    rounds = harness.ROUNDS_FULL if full else harness.ROUNDS
    baseline = _or_reason(raw.load)
    pair = _or_reason(tls.Pair)
    python = _or_reason(_pure_python)
    for mode in ("ae", "hmac"):
        for size in SIZES:
            report.progress(f"record {mode} {size}")
            payload = mms_pdu(size)
            peers: dict[str, Callable[[], Callable[[int], float]]] = {
                "tls13-memorybio": lambda size=size: _get(pair).messages(size),
                "raw-libcrypto": lambda mode=mode, size=size: _raw(_get(baseline), mode, size),
                "pure-python": lambda mode=mode, payload=payload: _get(python)(mode, payload),
            }
            for against, make in peers.items():
                for case in ("call", "batch"):
                    name = f"{mode}.{case}"
                    try:
                        peer = make()
                    except (ImportError, RuntimeError, OSError) as error:
                        report.failed("record", name, size, against, str(error))
                        continue
                    ours = Line(mode).call(payload) if case == "call" else Line(mode).batch(payload)
                    harness.compare(report, "record", name, size, against, ours, peer, rounds)


def _raw(module: Any, mode: str, size: int) -> Callable[[int], float]:
    """``module`` is built when it is needed, so there is nothing that says what is in it."""
    octets = authenticated_octets(mode, size)
    loop: Callable[[int], float] = module.RawGcm(size, octets).run if mode == "ae" else module.RawHmac(octets).run
    return loop


def _pure_python() -> Callable[[str, bytes], Callable[[int], float]]:
    from pure import message_loop

    return message_loop


def _or_reason(make: Callable[[], object]) -> object:
    try:
        return make()
    except (ImportError, RuntimeError, OSError) as error:
        return error


def _get(value: object) -> object:
    if isinstance(value, Exception):
        raise value
    return value
