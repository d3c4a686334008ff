"""Worst cases of each decoder at two sizes: the work has to grow with the size and no faster.

    python -m fuzz.scaling      prints, per shape, how many times as long eight times the octets take

``make fuzz`` runs it first. ``test_scaling`` counts lines of Python instead, because a test measures no time.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from engine_pair import UTC, authority
from envs.osi.support import MAX_TSDU
from fastsec._core.cursor import Reader, decode_oid, tlv
from fastsec._core.guard import scan_transfer
from fastsec._core.osidata import OsiChannel
from fastsec._core.pk import check_der
from fastsec._core.tpkt import dt
from fastsec.envs.osi import acse, cotp, presentation, session
from fastsec.errors import FastsecError
from fastsec.gateway import settings
from fastsec.pki import builder
from fastsec.pki.certificate import Certificate
from fastsec.pki.crl import RevocationList
from fastsec.secpdu import der
from fastsec.secpdu.fields import Carrier

GROWTH: Final = 8
# What is linear grows by 8; what is quadratic by 64. In between lies what an unsteady machine does.
SLOWEST: Final = 3 * GROWTH


class Shape(NamedTuple):
    """An input of any size, and who reads it."""

    name: str
    run: Callable[[bytes], object]
    make: Callable[[int], bytes]
    size: int


def _empty(tag: int, count: int) -> bytes:
    return bytes((tag, 0)) * count


def _signed_with(count: int) -> bytes:
    """A ReleaseReq with so many unknown TLVs after its token and after tbs's components."""
    known = der.decode(Carrier.RELEASE_REQ, _RELEASE)
    inner = Reader(known.tbs)
    inner.next()
    token = tlv(0x30, inner.value() + _empty(0x85, count))
    sign = tlv(0x30, known.algo.der + tlv(0x04, known.signature))
    return tlv(0x30, tlv(0x30, token + _empty(0x86, count)) + sign)


def _release() -> bytes:
    import json

    vectors = Path(__file__).resolve().parents[1] / "vectors" / "secpdus.json"
    for vector in json.loads(vectors.read_text(encoding="utf-8")):
        if vector["carrier"] == "RLRQ":
            return bytes.fromhex(vector["der"])
    raise AssertionError("no release among the vectors")


_RELEASE: Final = _release()


def _transfer_with(count: int) -> bytes:
    head = tlv(0x0C, b"1:2") + tlv(0x18, b"20261120120000.000Z") + tlv(0x02, b"\0")
    token = tlv(0x30, head + _empty(0x85, count))
    return tlv(0x30, tlv(0x30, token + tlv(0x04, bytes(32)) + _empty(0x86, count)))


def _indefinite(count: int) -> bytes:
    """Nested as deep as is allowed, with much inside."""
    return b"\x61\x80" + b"\x30\x80" * 13 + _empty(0x04, count) + b"\0\0" * 14


def _certificate_with(extensions: bytes, subject: bytes = b"") -> bytes:
    root = Reader(authority("one").root)
    root.next()
    parts = root.enter()
    parts.next()
    tbs = parts.enter()
    fields = []
    while tbs.more():
        tbs.next()
        fields.append(tbs.raw())
    if subject:
        fields[5] = subject
    fields[-1] = tlv(0xA3, tlv(0x30, extensions))
    parts.next()
    algorithm = parts.raw()
    parts.next()
    return tlv(0x30, tlv(0x30, b"".join(fields)) + algorithm + parts.raw())


def _extension(number: int) -> bytes:
    oid = tlv(
        0x06, b"\x2a" + bytes((0x80 | number >> 7 & 0x7F, number & 0x7F)) if number > 127 else bytes((0x2A, number))
    )
    return tlv(0x30, oid + tlv(0x04, b"\x05\0"))


def _extensions(count: int) -> bytes:
    return _certificate_with(b"".join(map(_extension, range(1, count + 1))))


def _names(count: int) -> bytes:
    names = tlv(0x30, tlv(0x88, b"\x2a\x03") * count)
    return _certificate_with(tlv(0x30, tlv(0x06, b"\x55\x1d\x11") + tlv(0x04, names)))


def _subject(count: int) -> bytes:
    rdn = tlv(0x31, tlv(0x30, tlv(0x06, b"\x55\x04\x03") + tlv(0x0C, b"a")))
    return _certificate_with(_extension(5), tlv(0x30, rdn * count))


def _list(count: int) -> bytes:
    return builder.revocation_list(
        issuer=authority("one")._issuer,
        this_update_ms=UTC,
        next_update_ms=None,
        revoked=[(number, UTC) for number in range(count)],
        extensions=(builder.crl_number(1),),
        key=authority("one")._key,
    )


def _streamed(step: int) -> Callable[[bytes], object]:
    def run(octets: bytes) -> None:
        line = OsiChannel(MAX_TSDU)
        for at in range(0, len(octets), step):
            line.feed(octets[at : at + step], 0)
            while line.next() is not None:
                line.feed(b"", 0)

    return run


def _configured(octets: bytes) -> None:
    settings.parse(octets.decode(), Path("/nowhere/gateway.toml"))


def _decoded(carrier: Carrier) -> Callable[[bytes], object]:
    return lambda octets: der.decode(carrier, octets)


def _spdu(count: int) -> bytes:
    return bytes((13, 255)) + (2 * count).to_bytes(2, "big") + _empty(0x99, count)


SHAPES: Final = (
    Shape("unknown TLVs in a SecPDU", _decoded(Carrier.RELEASE_REQ), _signed_with, 500),
    Shape("unknown TLVs in a transfer", scan_transfer, _transfer_with, 500),
    Shape(
        "unknown TLVs in a transfer, its kind", lambda octets: der.kind_of(Carrier.DATA, octets), _transfer_with, 500
    ),
    Shape("indefinite lengths", presentation.decode_user_data, _indefinite, 1000),
    Shape("nested indefinite lengths", presentation.decode_user_data, lambda n: b"\x30\x80" * n, 4000),
    Shape("TLVs without end", check_der, lambda n: _empty(0x04, n), 1000),
    Shape("nested TLVs", check_der, lambda n: b"\x30\x84\0\0\0\0" * n, 1000),
    Shape("an OBJECT IDENTIFIER without end", decode_oid, lambda n: b"\x81" * n, 4000),
    Shape("extensions of a certificate", lambda octets: Certificate(octets, ca=True), _extensions, 70),
    Shape("names of a certificate", lambda octets: Certificate(octets, ca=True), _names, 300),
    Shape("parts of a subject", lambda octets: Certificate(octets, ca=True), _subject, 100),
    Shape("entries of a CRL", RevocationList, _list, 300),
    Shape("parameters of a TPDU", cotp.decode, lambda n: bytes((6 + 2 * n, 0xE0, 0, 0, 0, 1, 0)) + _empty(0x99, n), 15),
    Shape("parameters of an SPDU", session.decode, _spdu, 3000),
    Shape("fields of an APDU", acse.decode, lambda n: tlv(0x60, _empty(0xBF, n)), 2000),
    Shape(
        "one kind of PPDU parameter", presentation.decode_connect, lambda n: tlv(0x31, tlv(0xA2, _empty(0x99, n))), 2000
    ),
    Shape(
        "values of a PPDU", presentation.decode_user_data, lambda n: tlv(0x61, tlv(0x30, b"\x02\1\3\x81\0") * n), 500
    ),
    Shape("frames, octet by octet", _streamed(1), lambda n: dt(b"\1\0\1\0x", 128) * n, 100),
    Shape("frames at once", _streamed(1 << 30), lambda n: dt(b"\1\0\1\0x", 128) * n, 500),
    Shape("a TSDU in many TPDUs", _streamed(1 << 30), lambda n: b"\x03\0\0\x08\x02\xf0\0x" * n + dt(b"x", 128), 1000),
    Shape(
        "mistakes in a configuration",
        _configured,
        lambda n: b"[trust]\n" + b"".join(b"k%d=1\n" % i for i in range(n)),
        300,
    ),
    Shape("routes of a configuration", _configured, lambda n: b"[[route]]\n" * n, 60),
    Shape("peers of a configuration", _configured, lambda n: b"[[route]]\npeers=[" + b'"1.2.3:4",' * n + b"]\n", 300),
)


def lines_of(run: Callable[[bytes], object], octets: bytes) -> int:
    """How many lines of Python the call executes."""
    count = 0

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(FastsecError):
            run(octets)
    finally:
        sys.settrace(before)
    return count


def _seconds(run: Callable[[bytes], object], octets: bytes) -> float:
    """Of the processor, for one call, the best of several."""
    best = 1e9
    for _ in range(5):
        calls, begun = 0, time.process_time()
        while (taken := time.process_time() - begun) < 0.02:
            with contextlib.suppress(FastsecError):
                run(octets)
            calls += 1
        best = min(best, taken / calls)
    return best


def main() -> int:
    """Measure all shapes; 1 if one grows too fast."""
    bad = 0
    for shape in SHAPES:
        growth = _seconds(shape.run, shape.make(GROWTH * shape.size)) / _seconds(shape.run, shape.make(shape.size))
        bad += growth > SLOWEST
        print(f"{shape.name:<40} x {growth:.1f}{'  TOO MUCH' if growth > SLOWEST else ''}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
