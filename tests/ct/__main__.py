"""``make ct``: does the time of a refusal tell where an ICV is wrong? Welch's t-test after dudect's method.

Two classes of wrong ICVs in random order: wrong from the first octet on, and wrong in the last octet only. A
comparison that ends at the first difference is faster for the first class. The control is such a comparison, in a copy
of the code; |t| above 4.5 is a leak (dudect). A statement about this machine and this moment, hence no test.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from statistics import fmean, quantiles, variance

import native

LIMIT = 4.5
BATCH = 2000
MODES = ("hmac", "gmac128-16", "gmac256-12", "gcm128-16", "gcm256-12")
EARLY = """
cdef inline int early(const uint8_t *a, const uint8_t *b, Py_ssize_t size) noexcept nogil:
    cdef volatile Py_ssize_t i
    for i in range(size):
        if a[i] != b[i]:
            return 1
    return 0


cdef inline bint in_window("""
FAULT = {
    "opening": (
        ("\ncdef inline bint in_window(", EARLY),
        ("CRYPTO_memcmp(mac, auth + ", "early(mac, auth + "),
    )
}


def welch(a: list[int], b: list[int]) -> float:
    return (fmean(a) - fmean(b)) / (variance(a) / len(a) + variance(b) / len(b)) ** 0.5


def child(mode: str, count: int) -> None:
    """Print the largest |t| over several cuts of the slowest measurements, as dudect does against outliers."""
    import stopwatch
    from guardkit import BY_NAME, T0, appl

    kind = BY_NAME[mode]
    now = T0 + 1  # later than the guard's start, so that the fast way goes on to the ICV
    pdu = kind.seal_guard().seal(appl(60), now)
    guard = kind.open_guard()
    icv = pdu[-kind.icv_len :]
    wrong = (
        pdu[: -kind.icv_len] + bytes(x ^ 0x5A for x in icv),
        pdu[: -kind.icv_len] + icv[:-1] + bytes([icv[-1] ^ 0x5A]),
    )
    times: tuple[list[int], list[int]] = ([], [])
    draw = random.Random(1)
    stopwatch.measure(guard, [wrong[0], wrong[1]] * 1000, now)
    for _ in range(0, count, BATCH):
        order = [draw.getrandbits(1) for _ in range(BATCH)]
        for which, ticks in zip(order, stopwatch.measure(guard, [wrong[which] for which in order], now), strict=True):
            times[which].append(ticks)
    cuts = quantiles(times[0] + times[1], n=20)
    worst = 0.0
    for cut in (cuts[9], cuts[14], cuts[17]):
        worst = max(worst, abs(welch(*([t for t in one if t <= cut] for one in times))))
    print(worst)


def run(source: str, mode: str, count: int) -> float:
    here = native.ROOT / "tests"
    path = os.pathsep.join(map(str, (source, here, here / "_core", native.build("stopwatch"))))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ct", "--child", mode, "--count", str(count)],
        stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(prog="ct")
    parser.add_argument("--count", type=int, default=400_000, help="measurements per mode")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.count)
        return
    bad = []
    for mode in MODES:
        # One run in which the machine was disturbed is no leak: it has to come again.
        values = [run(str(native.ROOT / "src"), mode, options.count)]
        if values[0] > LIMIT:
            values += [run(str(native.ROOT / "src"), mode, options.count) for _ in range(2)]
        print(f"{mode:12} |t| = {', '.join(f'{t:.1f}' for t in values)}")
        if min(values) > LIMIT:
            bad.append(mode)
    control = run(str(native.core_with_faults("early", FAULT)), "hmac", options.count)
    print(f"{'control':12} |t| = {control:.1f} (a comparison that ends at the first difference)")
    if control <= LIMIT:
        sys.exit("the control was not found: the machine is too busy for this measurement")
    if bad:
        sys.exit(f"time depends on where the ICV is wrong: {', '.join(bad)}")
    print("no time difference found where the control's is")


if __name__ == "__main__":
    main()
