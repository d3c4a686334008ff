"""The index of a CRL's entries: what is found is what stands there, and what is not an entry is refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec._core.crl import RevokedEntries, check_list
from fastsec._core.cursor import tlv
from fastsec._core.pk import check_der
from fastsec.errors import DecodeError
from fastsec.pki import builder, oids

AT = 1_790_000_000_000
TIME = builder.time(AT)


def reason(number: int) -> bytes:
    return tlv(0x30, tlv(0x30, b"\x06\x03\x55\x1d\x15" + tlv(0x04, bytes((0x0A, 1, number)))))


def entry(serial: int, more: bytes = b"", time: bytes = TIME) -> bytes:
    return tlv(0x30, builder.integer(serial) + time + more)


def index(*entries: bytes) -> RevokedEntries:
    octets = b"\x30\x00" + b"".join(entries)  # a list has a header before its entries
    return RevokedEntries(octets, 2, len(octets))


def content(serial: int) -> bytes:
    return serial.to_bytes(serial.bit_length() // 8 + 1, "big")


@given(st.lists(st.tuples(st.integers(0, 2**159 - 1), st.sampled_from((None, 0, 1, 6, 8, 11))), max_size=40))
def test_against_a_dictionary(listed: list[tuple[int, int | None]]) -> None:
    made = index(*(entry(serial, b"" if number is None else reason(number)) for serial, number in listed))
    assert made.count == len(made) == len(listed)
    wanted: dict[int, int] = {}
    for serial, number in listed:
        if number != 8:
            wanted.setdefault(serial, number or 0)
    for serial in {serial for serial, _ in listed}:
        assert made.find(content(serial)) == ((wanted[serial], AT) if serial in wanted else None)
    assert made.serials() == {content(serial) for serial in wanted}
    assert made.find(b"") is None
    assert made.find(bytes(30)) is None


@pytest.mark.parametrize("count", [1, 2, 3, 4, 1000, 4096, 20_000])
def test_many(count: int) -> None:
    random_ = random.Random(count)
    numbers = list({random_.getrandbits(128) for _ in range(2 * count)})
    listed, others = numbers[:count], numbers[count:]
    made = index(*map(entry, listed))
    assert all(made.find(content(number)) == (0, AT) for number in listed)
    assert not any(made.find(content(number)) for number in others)


def test_nothing_listed() -> None:
    assert RevokedEntries(b"").find(b"\x01") is None
    assert len(RevokedEntries(b"")) == 0
    assert RevokedEntries(b"").serials() == frozenset()
    assert repr(index(entry(1))) == "<RevokedEntries of 1>"


def test_bounds_of_the_content() -> None:
    for start, end in ((-1, 1), (1, 0), (0, 99)):
        with pytest.raises(DecodeError):
            RevokedEntries(b"\x30\x00", start, end)


def extension(oid: str, value: bytes, critical: bytes = b"") -> bytes:
    writer = builder.Writer()
    writer.oid(oid)
    return tlv(0x30, tlv(0x30, writer.getvalue() + critical + tlv(0x04, value)))


BAD = {
    "not a SEQUENCE": b"\x31\x00",
    "empty": b"\x30\x00",
    "no time": tlv(0x30, b"\x02\x01\x01"),
    "long form": b"\x30\x81\x12" + builder.integer(1) + TIME,
    "cut": entry(1)[:-1],
    "negative": tlv(0x30, b"\x02\x01\xff" + TIME),
    "serial empty": tlv(0x30, b"\x02\x00" + TIME),
    "serial not minimal": tlv(0x30, b"\x02\x02\x00\x01" + TIME),
    "serial too long": tlv(0x30, tlv(0x02, b"\x01" * 22) + TIME),
    "serial is no INTEGER": tlv(0x30, b"\x04\x01\x01" + TIME),
    "month 13": entry(1, time=tlv(0x17, b"261301000000Z")),
    "no digits": entry(1, time=tlv(0x17, b"26010100000xZ")),
    "no Z": entry(1, time=tlv(0x17, b"2601010000000")),
    "short time": entry(1, time=tlv(0x17, b"2601010000Z")),
    "leap second": entry(1, time=tlv(0x17, b"260101000060Z")),
    "year 0": entry(1, time=tlv(0x18, b"00000101000000Z")),
    "other time": entry(1, time=tlv(0x13, b"260101000000Z")),
    "something behind": tlv(0x30, builder.integer(1) + TIME + tlv(0x30, b"") + b"\x05\x00"),
    "no extensions": entry(1, b"\x31\x00"),
    "extension is none": entry(1, tlv(0x30, b"\x05\x00")),
    "extension without OID": entry(1, tlv(0x30, tlv(0x30, b"\x04\x00"))),
    "extension with empty OID": entry(1, tlv(0x30, tlv(0x30, b"\x06\x00\x04\x00"))),
    "extension without value": entry(1, tlv(0x30, tlv(0x30, b"\x06\x03\x55\x1d\x15"))),
    "extension with two values": entry(
        1, tlv(0x30, tlv(0x30, b"\x06\x03\x55\x1d\x15\x04\x02\x05\x00\x04\x02\x05\x00"))
    ),
    "value not DER": entry(1, extension("1.2.3", b"\x05")),
    "value too long": entry(1, extension("1.2.3", b"\x05\x00\x05\x00")),
    "critical": entry(1, extension("1.2.3", b"\x05\x00", b"\x01\x01\xff")),
    "certificateIssuer": entry(1, extension("2.5.29.29", b"\x30\x00", b"\x01\x01\xff")),
    "critical, not DER": entry(1, extension("1.2.3", b"\x05\x00", b"\x01\x01\x01")),
    "critical, false": entry(1, extension("1.2.3", b"\x05\x00", b"\x01\x01\x00")),
    "reason 7": entry(1, reason(7)),
    "reason 12": entry(1, reason(12)),
    "reason is an INTEGER": entry(1, extension(oids.CRL_REASON, b"\x02\x01\x01")),
    "reason of two octets": entry(1, extension(oids.CRL_REASON, b"\x0a\x02\x00\x01")),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_is_no_entry_is_refused(bad: bytes) -> None:
    with pytest.raises(DecodeError):
        index(bad)
    with pytest.raises(DecodeError):
        index(entry(5), bad, entry(6))


def test_other_extensions_say_nothing() -> None:
    assert index(entry(1, extension("2.5.29.24", tlv(0x18, b"20260101000000Z")))).find(b"\x01") == (0, AT)


@given(st.binary(max_size=60))
def test_der_is_what_the_other_check_takes(octets: bytes) -> None:
    def accepted(check: object) -> bool:
        try:
            check(octets)  # type: ignore[operator]
        except DecodeError:
            return False
        return True

    assert accepted(check_list) == accepted(check_der)


def test_deep_nesting_is_refused() -> None:
    octets = b""
    for _ in range(40):
        octets = tlv(0x30, octets)
    with pytest.raises(DecodeError):
        check_list(octets)
