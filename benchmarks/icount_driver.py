"""What ``make icount`` counts: runs each case for N and for 2 N rounds between callgrind's marks, several times over.

Arguments: the library made of icount_mark.c. The package under test comes by PYTHONPATH; it may be an older one, so a
case that it cannot run is reported as such and left out. Every input is fixed: keys, payloads, clock.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator

from fastsec import profile
from fastsec._core.crypto import Secret
from fastsec._core.guard import (
    MODE_AE,
    MODE_CBC_HMAC,
    MODE_GMAC,
    MODE_HMAC,
    GuardParams,
    OpenGuard,
    SealGuard,
)
from fastsec._core.osidata import OsiChannel
from fastsec._core.tpkt import dt
from fastsec.limits import OUR_TPDU_SIZE_PREFERRED, OUR_TSDU_MAX
from fastsec.secpdu.timestamp import time_text

NOW = 1_800_000_000_000
ASSO_ID = "17:42"
SIZES = (64, 256, 1024)
CHUNK = 16
BATCH = 32
WARM = 200  # also takes seq beyond 127, so that every PDU counted has one size
REPEATS = 4
ROUNDS = 100
ROUNDS_HANDSHAKE = 4
WARM_HANDSHAKE = 4

HMAC = bytes.fromhex("300c06082a864886f70d02090500")
GMAC = bytes.fromhex("301e06096086480165030401063011040c000000000000000000000000020110")  # AES-128-GCM, 16 octets
KEYS = bytes(range(7, 7 + 96))

Loop = Callable[[int], None]


def mms_pdu(size: int) -> bytes:
    """A confirmed-ResponsePDU of ``size`` octets in all, 64 to 64 Ki."""
    header, width = (b"\xa1", 1) if size < 130 else (b"\xa1\x81", 1) if size < 259 else (b"\xa1\x82", 2)
    body = size - len(header) - width
    return header + body.to_bytes(width, "big") + bytes(body)


def guards(mode: str) -> tuple[SealGuard, OpenGuard]:
    """Both ends of one direction."""
    keys = Secret.from_bytes(KEYS)
    ik: tuple[int, int] | None
    ek: tuple[int, int] | None
    if mode == "hmac":
        params, ik, ek = GuardParams(MODE_HMAC, ASSO_ID, HMAC, 32, 0, 32), (0, 32), None
    elif mode == "gmac":
        params, ik, ek = GuardParams(MODE_GMAC, ASSO_ID, GMAC, 16, 0, 16), (0, 16), None
    elif mode == "cbc":
        params, ik, ek = GuardParams(MODE_CBC_HMAC, ASSO_ID, HMAC, 32, 16, 32), (0, 32), (64, 16)
    else:
        params, ik, ek = GuardParams(MODE_AE, ASSO_ID, b"", 16, 16, 0), None, (0, 16)
    start = time_text(NOW - 1)
    return SealGuard(params, keys, ik, ek, start_time=start), OpenGuard(params, keys, ik, ek, start_time=start)


def seal(mode: str, size: int) -> Loop:
    call, payload = guards(mode)[0].seal, mms_pdu(size)

    def run(n: int) -> None:
        for _ in range(n):
            call(payload, NOW)

    return run


def opened(mode: str, size: int) -> Loop:
    sealer, opener = guards(mode)
    payload, call = mms_pdu(size), opener.open
    pdus = iter([sealer.seal(payload, NOW) for _ in range(WARM + 3 * REPEATS * ROUNDS)])

    def run(n: int) -> None:
        for _ in range(n):
            call(next(pdus), NOW)

    return run


def channels(mode: str) -> tuple[OsiChannel, OsiChannel]:
    sealer, opener = guards(mode)
    tx, rx = OsiChannel(OUR_TSDU_MAX), OsiChannel(OUR_TSDU_MAX)
    tx.arm_tx(sealer, profile.CONTEXT_E2E, OUR_TPDU_SIZE_PREFERRED)
    rx.arm_rx(opener, profile.CONTEXT_E2E)
    return tx, rx


def receive(mode: str, per_chunk: int) -> Loop:
    """One call of ``feed`` per chunk; a round is one chunk."""
    tx, rx = channels(mode)
    payload, feed = mms_pdu(256), rx.feed
    total = WARM + 3 * REPEATS * ROUNDS + 1
    chunks = iter([b"".join(tx.seal(payload, NOW) for _ in range(per_chunk)) for _ in range(total)])
    if len(feed(next(chunks), NOW)) != per_chunk:
        raise RuntimeError("the PDUs did not arrive")

    def run(n: int) -> None:
        for _ in range(n):
            feed(next(chunks), NOW)

    return run


def batch(mode: str) -> Loop:
    tx, _ = channels(mode)
    payloads, call = [mms_pdu(256)] * BATCH, tx.seal_batch

    def run(n: int) -> None:
        for _ in range(n):
            call(payloads, NOW)

    return run


def join() -> Loop:
    """A TSDU of 4,000 octets into the frames of TPDUs of 1,024."""
    tsdu = bytes(4000)

    def run(n: int) -> None:
        for _ in range(n):
            dt(tsdu, 1024)

    return run


def split(chunk: bytes, expected: int) -> Loop:
    """Frames without protection out of a chunk; several DT of one TSDU are put together."""
    rx = OsiChannel(OUR_TSDU_MAX)
    rx.arm_rx(None, -1)
    feed = rx.feed
    if len(feed(chunk, NOW)) != expected:
        raise RuntimeError("the TSDUs did not arrive")

    def run(n: int) -> None:
        for _ in range(n):
            feed(chunk, NOW)

    return run


def derivation() -> Loop:
    """OKM and the four guards' keys of one side, from Z."""
    from fastsec.keys import derive, first_guards

    params = GuardParams(MODE_CBC_HMAC, ASSO_ID, HMAC, 32, 16, 32)
    z, h2, start = bytes(range(32)), bytes(range(32, 64)), time_text(NOW)

    def run(n: int) -> None:
        for _ in range(n):
            okm = derive(params, Secret.from_bytes(z), h2)
            first_guards(params, okm, is_client=True, own_time=start, peer_time=start)

    return run


def handshakes() -> Loop:
    """Both sides of the handshake, P-256, jobs run in place."""
    import handshake
    from fastsec.instant import Instant

    handshake.now = lambda: Instant(NOW, 1_000_000)
    loop = handshake.Setup("p256", 23).handshakes()

    def run(n: int) -> None:
        loop(n)

    return run


def cases() -> Iterator[tuple[str, int, Callable[[], Loop]]]:
    """Name, operations per round, and what makes the loop."""
    for mode in ("hmac", "gmac", "cbc", "ae"):
        for size in SIZES:
            yield f"seal.{mode}.{size}", 1, lambda mode=mode, size=size: seal(mode, size)
            yield f"open.{mode}.{size}", 1, lambda mode=mode, size=size: opened(mode, size)
    for mode in ("hmac", "ae"):
        for count in (1, CHUNK):
            yield f"receive.{mode}.{count}", count, lambda mode=mode, count=count: receive(mode, count)
        yield f"batch.{mode}.{BATCH}", BATCH, lambda mode=mode: batch(mode)
    yield "tpkt.join", 1, join
    yield "tpkt.split", CHUNK, lambda: split(dt(mms_pdu(256), 1024) * CHUNK, CHUNK)
    yield "tpkt.reassemble", 1, lambda: split(dt(bytes(4000), 1024), 1)
    yield "derive", 1, derivation
    yield "handshake", 1, handshakes


def shifted(repeat: int) -> list[bytes]:
    """Takes up what the heap has cached, and an odd piece, so that the next buffers lie elsewhere.

    How many instructions copying takes depends on where a buffer begins within 64 octets; one place alone would make
    a change of a structure's size look like a change of the code.
    """
    return [bytes(size) for size in range(512, 4608, 16)] + [bytes(600 + 16 * repeat)]


def main(library: str, only: list[str]) -> int:
    mark = ctypes.CDLL(library)
    if not mark.icount_under_valgrind():
        print("this counts nothing outside of callgrind", file=sys.stderr)
        return 2
    on, off = mark.icount_on, mark.icount_off
    gc.disable()
    for name, per_round, make in cases():
        if only and name not in only:
            continue
        slow = name == "handshake"
        rounds, warm = (ROUNDS_HANDSHAKE, WARM_HANDSHAKE) if slow else (ROUNDS, WARM)
        try:
            loop = make()
            loop(warm)
        except Exception as error:  # an older package with another interface
            print(f"{name} {type(error).__name__}: {error}", flush=True)
            continue
        gc.collect()
        held = []
        for repeat in range(REPEATS):
            for factor in (1, 2):
                label = f"{name} {repeat} {factor}".encode()
                on()
                loop(factor * rounds)
                off(label)
            held.append(shifted(repeat))
        print(f"{name} {rounds * per_round}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
