"""The cursor: what it accepts, what it refuses, and that nothing but DecodeError ever comes of octets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec import limits
from fastsec._core.cursor import Reader, Writer, decode_oid, encode_oid, tlv
from fastsec.errors import DecodeError, LocalError
from reference import tlv as reference


def reader(text: str, **options: bool) -> Reader:
    return Reader(bytes.fromhex(text), **options)


# --- TLVs -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "tag", "value"),
    [
        ("0500", 0x05, b""),
        ("0401aa", 0x04, b"\xaa"),
        ("048101aa", 0x04, b"\xaa"),  # longer than need be
        ("04850000000001aa", 0x04, b"\xaa"),  # leading zeros in the length
        ("5f2d01aa", 0x5F2D, b"\xaa"),
        ("7f81800101aa", 0x7F818001, b"\xaa"),  # four identifier octets are the most
        ("5f81000141", 0x5F8100, b"\x41"),
    ],
)
def test_reads_any_definite_form(text: str, tag: int, value: bytes) -> None:
    r = reader(text)
    assert (r.next(), r.value(), r.raw().hex(), r.more()) == (tag, value, text, False)
    assert r.first == 0
    assert r.after == r.stop == r.pos == r.end == len(text) // 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "04",
        "0402aa",  # cut
        "0481",
        "048200",
        "04ff" + "00" * 127,  # reserved length
        "0000",  # end-of-contents outside the indefinite form
        "0001aa",
        "1f1eff00",
        "1f1e00",  # a number that fits the short form
        "1f800100",  # leading zero in the tag number
        "1f81818100" + "00",  # five identifier octets
        "1f",
        "1f81",
        "1f8181",
        "0484ffffffff",
        "0488ffffffffffffffff",
        "3080",
        "30800000",  # indefinite, and not asked for
    ],
)
def test_refuses_broken_tlvs(text: str) -> None:
    r = reader(text)
    with pytest.raises(DecodeError) as caught:
        r.next()
    assert caught.value.check == "protocol-error"
    assert r.pos == 0


def test_indefinite_form_where_allowed() -> None:
    r = reader("3080308002010500000401aa000002017f", indefinite=True)
    assert r.next() == 0x30
    assert r.value().hex() == "308002010500000401aa"
    assert r.covered().hex() == "308002010500000401aa0000"
    assert (r.stop, r.after) == (12, 14)
    with pytest.raises(DecodeError):
        r.enter().next()  # the form is not inherited
    inner = r.enter(indefinite=True)
    assert (inner.next(), inner.next(), inner.more()) == (0x30, 0x04, False)
    assert r.integer() == 127


def test_covered_of_the_definite_form_is_its_content() -> None:
    r = reader("3003020105")
    r.expect(0x30)
    assert r.covered() == r.value() == b"\x02\x01\x05"


@pytest.mark.parametrize(
    "text", ["04800000", "3080", "308000", "30800401", "30800001aa0000", "3080308000 00".replace(" ", "")]
)
def test_refuses_broken_indefinite_forms(text: str) -> None:
    with pytest.raises(DecodeError):
        reader(text, indefinite=True).next()


def test_nesting_is_limited() -> None:
    deep = limits.OUR_NESTING_MAX
    allowed = b"\x30\x80" * deep + b"\x00\x00" * deep
    Reader(allowed, indefinite=True).next()
    with pytest.raises(DecodeError):
        Reader(b"\x30\x80" * (deep + 1) + b"\x00\x00" * (deep + 1), indefinite=True).next()
    data = b""
    for _ in range(deep + 1):
        data = tlv(0x30, data)
    r = Reader(data)
    for _ in range(deep - 1):
        r.next()
        r = r.enter()
    r.next()
    with pytest.raises(DecodeError):
        r.enter()


def test_indefinite_forms_are_read_in_linear_time() -> None:
    # Nothing to measure: four million inner TLVs would never end if each cost a look at all of them.
    data = b"\x30\x80" + b"\x30\x80\x00\x00" * 4_000_000 + b"\x00\x00"
    r = Reader(data, indefinite=True)
    r.next()
    assert r.after == len(data)


def test_bounds_of_the_level() -> None:
    data = bytes.fromhex("0401aa0401bb")
    r = Reader(data, 3)
    assert r.octets() == b"\xbb"
    r.finish()
    with pytest.raises(DecodeError):
        Reader(data, 0, 2).next()
    for start, end in ((-1, 2), (2, 1), (0, 7), (7, None)):
        with pytest.raises(LocalError):
            Reader(data, start, end)


def test_walking() -> None:
    r = reader("0201050400300302010a0101ff")
    assert r.tag == -1
    assert r.peek() == 0x02
    assert not r.optional(0x04)
    assert r.optional(0x02)
    assert r.value() == b"\x05"
    assert r.peek() == 0x04
    with pytest.raises(DecodeError, match="30 wanted, 04 found"):
        r.expect(0x30)
    assert r.octets() == b""
    r.expect(0x30)
    inner = r.enter(step="x")
    assert inner.integer(0x02) == 10
    with pytest.raises(DecodeError, match="missing") as caught:
        inner.integer()
    assert caught.value.step == "x"
    assert inner.peek() == -1
    assert not inner.optional(0x02)
    with pytest.raises(DecodeError, match="too many"):
        r.finish()
    assert r.boolean() is True
    r.finish()
    with pytest.raises(DecodeError):
        r.enter()  # not constructed


# --- values ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("020100", 0),
        ("0201ff", -1),
        ("02020080", 128),
        ("02080000000000000001", 1),
        ("02087fffffffffffffff", 2**63 - 1),
        ("02088000000000000000", -(2**63)),
    ],
)
def test_integer(text: str, value: int) -> None:
    assert reader(text).integer() == value


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("0200", "integer"),
        ("0209000000000000000001", "integer"),
        ("0100", "boolean"),
        ("01020000", "boolean"),
        ("050100", "null"),
        ("0300", "bits"),
        ("030208ff", "bits"),
        ("030101", "bits"),
        ("0322" + "00" * 34, "named_bits"),
        ("0600", "oid"),
        ("060180", "oid"),
        ("06022a80", "oid"),
        ("06032a8001", "oid"),
        ("060a2affffffffffffffffff7f"[: 4 + 20], "oid"),
        ("060b2affffffffffffffffff7f", "oid"),
        ("0641" + "2a" * 65, "oid"),
        ("0c01ff", "utf8"),
        ("0c03eda080", "utf8"),
    ],
)
def test_refuses_broken_values(text: str, call: str) -> None:
    with pytest.raises(DecodeError) as caught:
        getattr(reader(text), call)()
    assert caught.value.check == "protocol-error"


def test_values() -> None:
    assert reader("010101").boolean() is True
    assert reader("010100").boolean() is False
    assert reader("05 00").null() is None
    assert reader("03020780").bits() == (b"\x80", 7)
    assert reader("030100").bits() == (b"", 0)
    assert reader("03020780").named_bits() == 1
    assert reader("0303050060").named_bits() == 1 << 9 | 1 << 10
    assert reader("030207ff").named_bits() == 1  # unused bits do not count
    assert reader("03030080 00").named_bits() == 1  # trailing zeros neither
    assert reader("0c02c3a9").utf8() == "é"
    assert reader("1a0241 5a".replace(" ", "")).text(0x1A) == "AZ"
    with pytest.raises(DecodeError):
        reader("1a02c3a9").text(0x1A)
    assert reader("0403000102").octets(maximum=3) == b"\x00\x01\x02"
    with pytest.raises(DecodeError):
        reader("0403000102").octets(maximum=2)
    with pytest.raises(DecodeError):
        reader("0c03414141").utf8(maximum=2)


@pytest.mark.parametrize(
    ("dotted", "content"),
    [
        ("2.5.4.106", "55046a"),
        ("1.0.62351.4.1.1.1", "2883e70f04010101"),
        ("1.0.9506.2.1", "28ca220201"),
        ("2.999.3", "883703"),
        ("0.0", "00"),
        ("1.39.9223372036854775807", "4fffffffffffffffff7f"),
        ("2.9223372036854775727", "ffffffffffffffff7f"),
    ],
)
def test_oids(dotted: str, content: str) -> None:
    assert encode_oid(dotted).hex() == content
    assert decode_oid(bytes.fromhex(content)) == dotted


@pytest.mark.parametrize(
    "dotted",
    [
        "",
        "1",
        "3.1",
        "1.40",
        "1.2.",
        "1.02",
        "1.-2",
        "1.2.9223372036854775808",
        "1.2." + "1." * 70 + "1",
        "2.9223372036854775728",
        "1.\u0662",
    ],
)
def test_refuses_to_write_what_is_no_oid(dotted: str) -> None:
    with pytest.raises(LocalError):
        encode_oid(dotted)


@given(st.integers(0, 2), st.lists(st.integers(0, 2**56), min_size=1, max_size=6))
def test_oid_round_trip(first: int, arcs: list[int]) -> None:
    if first < 2:
        arcs[0] %= 40
    dotted = ".".join(map(str, [first, *arcs]))
    assert decode_oid(encode_oid(dotted)) == dotted


# --- writer ---------------------------------------------------------------------------------------------------------
@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_are_written_as_short_as_possible(value: int) -> None:
    w = Writer()
    w.integer(value)
    der = w.getvalue()
    assert Reader(der).integer() == value
    assert der == tlv(0x02, value.to_bytes((value if value >= 0 else ~value).bit_length() // 8 + 1, "big", signed=True))


@given(st.integers(0, 2**200))
def test_named_bits_round_trip(mask: int) -> None:
    w = Writer()
    w.named_bits(mask)
    assert Reader(w.getvalue()).named_bits() == mask


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 24])
def test_lengths(size: int) -> None:
    w = Writer()
    w.begin(0x30)
    w.octets(bytes(size))
    w.end()
    inner = reference.tlv(0x04, bytes(size))
    assert w.getvalue() == reference.tlv(0x30, inner) == tlv(0x30, inner)
    r = Reader(w.getvalue())
    r.expect(0x30)
    assert r.enter().octets() == bytes(size)


def test_writer_der() -> None:
    w = Writer()
    w.begin(0x7F2D)
    w.boolean(True)
    w.boolean(False, 0x82)
    w.null()
    w.named_bits(1)
    w.named_bits(0)
    w.utf8("é")
    w.oid("2.5.4.106")
    w.raw(b"\x05\x00")
    w.primitive(0x80, b"a")
    w.end()
    assert (
        w.getvalue().hex()
        == "7f2d1d0101ff8201000500" + "03020780" + "030100" + "0c02c3a9" + "060355046a" + "0500" + "800161"
    )
    assert Writer().getvalue() == b""


def test_writer_misuse() -> None:
    w = Writer()
    with pytest.raises(LocalError):
        w.end()
    with pytest.raises(LocalError):
        w.primitive(0, b"")
    with pytest.raises(LocalError):
        w.named_bits(-1)
    for _ in range(32):
        w.begin(0x30)
    with pytest.raises(LocalError):
        w.begin(0x30)
    with pytest.raises(LocalError):
        w.getvalue()
    with pytest.raises(OverflowError):
        w.integer(2**63)


# --- against the reference --------------------------------------------------------------------------------------------
def shape(data: bytes, indefinite: bool) -> list[tuple[int, bytes, bytes]] | None:
    r = Reader(data, indefinite=indefinite)
    found = []
    try:
        while r.more():
            r.next()
            found.append((r.tag, r.value(), r.covered()))
    except DecodeError:
        return None
    return found


def reference_shape(data: bytes, indefinite: bool) -> list[tuple[int, bytes, bytes]] | None:
    pos = 0
    found = []
    try:
        while pos < len(data):
            item = reference.read(data, pos, indefinite)
            found.append((item.tag, item.content, item.signed))
            pos += len(item.whole)
    except reference.Fault:
        return None
    return found


pieces = st.recursive(
    st.binary(max_size=6),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(b"".join),
        inner.map(lambda b: b"\x30\x80" + b + b"\x00\x00"),
        st.tuples(st.sampled_from([0x30, 0x04, 0xA0, 0x5F2D, 0x02]), inner).map(lambda x: tlv(*x)),
    ),
    max_leaves=12,
)


@given(pieces, st.booleans())
def test_agrees_with_the_reference(data: bytes, indefinite: bool) -> None:
    assert shape(data, indefinite) == reference_shape(data, indefinite)


@given(st.binary(max_size=40))
def test_any_octets_give_a_value_or_a_decode_error(data: bytes) -> None:
    for name in ("integer", "octets", "oid", "boolean", "null", "bits", "named_bits", "utf8"):
        r = Reader(data, indefinite=True)
        try:
            tag = r.peek()
            if tag > 0:
                getattr(r, name)(tag)
        except DecodeError:
            pass
        assert 0 <= r.pos <= len(data)


@pytest.mark.parametrize("octets", ["3080", "308002", "0405", "1f", "30820001"])
def test_a_tlv_that_cannot_be_read_leaves_the_reader_where_it_was(octets: str) -> None:
    reader = Reader(bytes.fromhex("0402abcd" + octets))
    assert reader.next() == 0x04
    for _ in range(2):
        with pytest.raises(DecodeError):
            reader.expect(0x31)
        assert (reader.tag, reader.first, reader.start, reader.stop, reader.after) == (0x04, 0, 2, 4, 4)
        assert reader.value() == reader.covered() == b"\xab\xcd"
        assert reader.raw() == bytes.fromhex("0402abcd")


def test_nothing_but_octets_of_a_real_tag_is_written() -> None:
    with pytest.raises(LocalError, match="end-of-contents"):
        tlv(0, b"")
    reader = Reader(b"\x30\x00")
    with pytest.raises(DecodeError, match="not constructed"):
        reader.enter()  # nothing has been read yet
