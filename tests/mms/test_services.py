"""Reading of MMS service requests: what is asked for, and that nothing can be understood in two ways."""

from __future__ import annotations

import json
import struct
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec import limits
from fastsec.errors import DecodeError
from fastsec.mms import services
from fastsec.mms.services import Name, Request
from mms_requests import (
    CONTENT,
    LD,
    get_name_list,
    integer,
    list_of,
    name,
    read,
    request,
    service,
    tlv,
    usual,
    variable,
    variables,
    write,
)

CAPTURES = Path(__file__).resolve().parents[1] / "captures"


# --- the table --------------------------------------------------------------------------------------------------------
def test_every_service_has_its_tag_and_name() -> None:
    """Against the syntax that hat-drivers was made with."""
    text = resources.files("hat.drivers.mms").joinpath("asn1_repo.json").read_text(encoding="utf-8")
    types = {reference[2]: kind for reference, kind in json.loads(text)}

    def primitive(kind: list) -> bool:  # type: ignore[type-arg]
        if kind[0] == "TypeRef":
            return primitive(types[kind[2]])
        if kind[0] == "PrefixedType":
            return bool(kind[4]) and primitive(kind[1])
        return kind[0] not in ("SequenceType", "SetType", "SequenceOfType", "SetOfType", "ChoiceType", "ExternalType")

    found = {}
    for word, kind in types["ConfirmedServiceRequest"][1]:
        assert kind[2] == "CONTEXT_SPECIFIC"
        assert services.tag_of(kind[3]) >> (8 if kind[3] > 30 else 0) & 0x20 == (0 if primitive(kind) else 0x20), word
        found[kind[3]] = word.replace("defineScatteredAcce", "defineScatteredAccess").replace("ssss", "ss")
    assert found == services.NAMES


@pytest.mark.parametrize("number", services.NAMES)
def test_every_service_is_recognized(number: int) -> None:
    pdu = request(usual(number), 0x12345)
    framed = services.frame(pdu)
    assert framed.invoke_id == 0x12345
    found = services.parse(pdu[framed.body :])
    assert found.service == services.NAMES[number]
    assert not found.odd


@pytest.mark.parametrize("number", [79, 87, 100, 127])
def test_other_numbers_are_odd(number: int) -> None:
    found = services.parse(service(number))
    assert (found.service, bool(found.odd)) == ("unknown", True)


@pytest.mark.parametrize("tag", ["84", "64", "e4", "9f48", "a2"])
def test_other_forms_of_a_known_number_are_odd(tag: str) -> None:
    """Read with a primitive, application or private tag; fileOpen as a primitive, identify constructed."""
    assert services.parse(bytes.fromhex(tag) + b"\x00").odd


@pytest.mark.parametrize("tag", ["bf04", "bf8004", "bf8048"])
def test_tags_written_longer_than_needed_are_malformed(tag: str) -> None:
    with pytest.raises(DecodeError):
        services.parse(bytes.fromhex(tag) + b"\x00")


# --- objects ----------------------------------------------------------------------------------------------------------
def test_read_names_its_variables() -> None:
    found = services.parse(read(variables("GGIO1$ST$Ind1$stVal", "MMXU1$MX$A"), tlv(0x80, b"\xff")))
    assert found == Request("read", (Name(LD, "GGIO1$ST$Ind1$stVal"), Name(LD, "MMXU1$MX$A")), 2)
    assert str(found.names[0]) == "A1LD0/GGIO1$ST$Ind1$stVal"


def test_read_and_write_of_a_list() -> None:
    assert services.parse(read(list_of("LLN0$ds"))) == Request("read", list_name=Name(LD, "LLN0$ds"))
    assert services.parse(write(list_of("ds", "@"))) == Request("write", list_name=Name("@", "ds"))
    assert services.parse(write(list_of("ds", None))) == Request("write", list_name=Name("", "ds"))


def test_write_names_its_variables() -> None:
    assert services.parse(write(variables("GGIO1$CO$SPCSO1$Oper"))) == Request(
        "write", (Name(LD, "GGIO1$CO$SPCSO1$Oper"),), 1
    )


def test_an_alternate_access_is_of_the_variable_it_is_in() -> None:
    for content in (tlv(0x81, b"phsA"), tlv(0xA5, tlv(0x80, b"x") + tlv(0x81, b"y")), tlv(0x82, b"\x03")):
        entry = variable("MMXU1$MX$HA", alternate=tlv(0xA5, content))
        assert services.parse(read(tlv(0xA0, entry))).names == (Name(LD, "MMXU1$MX$HA"),)


@pytest.mark.parametrize("tag", [0xA1, 0xA2, 0xA3, 0x84])
def test_a_variable_without_a_name_is_odd(tag: int) -> None:
    entry = tlv(0x30, tlv(tag, b"" if tag == 0x84 else tlv(0x80, b"\x01")))
    found = services.parse(read(tlv(0xA0, variable("GGIO1$ST$Ind1") + entry)))
    assert found.odd
    assert found.variables == 2


def test_a_read_of_nothing_is_odd() -> None:
    assert services.parse(read(tlv(0xA0, b""))).odd


def test_more_variables_than_are_looked_at_are_counted() -> None:
    many = limits.OUR_MMS_VARIABLES_MAX
    found = services.parse(read(variables(*["G$ST$a"] * many)))
    assert (found.variables, found.odd) == (many, "")
    found = services.parse(read(variables(*["G$ST$a"] * (many + 10))))
    assert found.variables == many + 10
    assert found.odd
    assert len(found.names) == many


def test_what_is_remembered_of_variables_is_bounded() -> None:
    """An alternate access may be as long as the PDU: such a variable is read anew each time."""
    services._known_variable.cache_clear()
    long = variable("MMXU1$MX$HA", alternate=tlv(0xA5, bytes(30_000)))
    assert services.parse(read(tlv(0xA0, long))).names == (Name(LD, "MMXU1$MX$HA"),)
    assert services._known_variable.cache_info().currsize == 0
    for number in range(5000):
        services.parse(read(variables(f"GGIO1$ST$Ind{number}")))
    assert services._known_variable.cache_info().currsize <= 4096


def test_lists_are_defined_with_their_members_and_deleted_by_name() -> None:
    found = services.parse(service(11, name("ds", "@") + variables("GGIO1$ST$Ind1", None)))
    assert found.list_name == Name("@", "ds")
    assert found.names == (Name(LD, "GGIO1$ST$Ind1"),)
    assert found.odd
    assert services.parse(service(13, tlv(0xA1, name("LLN0$ds") + name("b", None)))) == Request(
        "deleteNamedVariableList", (Name(LD, "LLN0$ds"), Name("", "b"))
    )
    for content in (tlv(0x80, b"\x01"), tlv(0x80, b"\x02") + tlv(0x82, LD.encode()), b"", tlv(0x80, b"\x03")):
        assert services.parse(service(13, content)).all_of


def test_names_of_the_directory_services() -> None:
    assert services.parse(get_name_list()).names == (Name(LD, ""),)
    assert services.parse(get_name_list(None)).names == ()
    assert services.parse(get_name_list(LD, "GGIO1$ST")).names == (Name(LD, ""),)
    assert services.parse(usual(6)).names == (Name(LD, "GGIO1"),)
    assert services.parse(service(6, tlv(0xA1, tlv(0x80, b"\x01")))).odd
    assert services.parse(usual(12)).names == (Name(LD, "LLN0$ds"),)
    for number in (65, 66, 67, 68, 69, 70):
        assert services.parse(usual(number)).names == (Name(LD, "LLN0$EventLog"),)


def test_files_are_named_for_the_log() -> None:
    names = {number: services.parse(usual(number)).file for number in (46, 72, 75, 76, 77)}
    assert names == {46: "here", 72: "/COMTRADE/1.cfg", 75: "a", 76: "/COMTRADE/1.cfg", 77: ""}


def test_modifiers_and_extensions_are_odd() -> None:
    assert services.parse(tlv(0x30, b"") + usual(4)).odd
    assert services.parse(usual(40) + tlv(0xBF4F, tlv(0x05, b""))).odd


# --- what nobody may understand in two ways ---------------------------------------------------------------------------
GOOD = read(variables("GGIO1$ST$Ind1"))
MALFORMED = {
    "two services": GOOD + GOOD,
    "octets after the service": GOOD + b"\x00",
    "something after the extension": GOOD + tlv(0xBF4F, b"\x05\x00") + b"\x05\x00",
    "indefinite length": b"\xa4\x80" + GOOD[2:] + b"\x00\x00",
    "a length of many octets": b"\xa4\x88" + bytes(7) + bytes((len(GOOD) - 2,)) + GOOD[2:],
    "a length of many octets below": read(b"\xa0\x88" + bytes(7) + b"\x00"),
    "longer than it is": b"\xa4\x7f" + GOOD[2:],
    "two access specifications": tlv(0xA4, tlv(0xA1, variables("G$ST$a") + variables("G$CO$a"))),
    "two wrapped specifications": tlv(0xA4, tlv(0xA1, variables("G$ST$a")) * 2),
    "two names in a variable": read(tlv(0xA0, tlv(0x30, tlv(0xA0, name("G$ST$a") + name("G$CO$a"))))),
    "two specifications in a variable": read(tlv(0xA0, tlv(0x30, tlv(0xA0, name("G$ST$a")) * 2))),
    "three identifiers": read(tlv(0xA0, tlv(0x30, tlv(0xA0, tlv(0xA1, tlv(0x1A, b"a") * 3))))),
    "one identifier": read(tlv(0xA0, tlv(0x30, tlv(0xA0, tlv(0xA1, tlv(0x1A, b"a")))))),
    "a constructed identifier": read(tlv(0xA0, tlv(0x30, tlv(0xA0, tlv(0xA1, tlv(0x3A, b"") * 2))))),
    "a UTF8String": read(tlv(0xA0, tlv(0x30, tlv(0xA0, tlv(0xA1, tlv(0x0C, b"a") * 2))))),
    "an empty item": read(variables("")),
    "an empty domain": read(tlv(0xA0, variable("a", ""))),
    "octets that are no ASCII": read(variables(b"GGIO1$ST$\xff")),
    "a long item": read(variables("G" * (limits.OUR_MMS_IDENTIFIER_MAX + 1))),
    "a primitive list of variables": read(tlv(0x80, b"")),
    "a name of another class": read(tlv(0xA0, tlv(0x30, tlv(0xA0, tlv(0x83, b"a"))))),
    "an alternate access that is none": read(tlv(0xA0, variable("G$ST$a", alternate=tlv(0xA6, b"")))),
    "two alternate accesses": read(tlv(0xA0, variable("G$ST$a", alternate=tlv(0xA5, b"") * 2))),
    "a SET of variable": read(tlv(0xA0, tlv(0x31, tlv(0xA0, name("G$ST$a"))))),
    "a write without values": tlv(0xA5, variables("G$CF$a")),
    "a write with more": write(variables("G$CF$a")) [:1] + bytes((len(write(variables("G$CF$a"))),))
    + write(variables("G$CF$a"))[2:] + b"\x05\x00",
    "an empty read": tlv(0xA4, b""),
    "an empty list name": read(tlv(0xA1, b"")),
    "a scope of two": service(1, tlv(0xA0, tlv(0x80, b"\0")) + tlv(0xA1, tlv(0x80, b"") + tlv(0x81, b"a"))),
    "a scope of another kind": service(1, tlv(0xA0, tlv(0x80, b"\0")) + tlv(0xA1, tlv(0x83, b""))),
    "attributes of two": service(6, tlv(0xA0, name("a")) * 2),
    "attributes of nothing": service(6, tlv(0xA2, b"")),
    "a file name that is none": service(76, tlv(0x1A, b"a")),
    "obtainFile without a destination": service(46, tlv(0xA1, b"")),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed(body: bytes) -> None:
    with pytest.raises(DecodeError):
        services.parse(body)


@pytest.mark.parametrize(
    "pdu",
    [
        b"",
        b"\xa0",
        b"\xa0\x00",
        b"\xa1\x03\x02\x01\x01",
        request(GOOD) + b"\x00",
        b"\xa0\x80" + request(GOOD)[2:] + b"\x00\x00",
        tlv(0xA0, tlv(0x02, b"\xff") + GOOD),
        tlv(0xA0, tlv(0x02, b"\x01\x00\x00\x00\x00") + GOOD),
        tlv(0xA0, tlv(0x02, b"") + GOOD),
        tlv(0xA0, tlv(0x80, b"\x01") + GOOD),
        b"\xa0\x88" + bytes(7) + request(GOOD)[1:],
    ],
)
def test_no_frame(pdu: bytes) -> None:
    with pytest.raises(DecodeError):
        services.frame(pdu)


@pytest.mark.parametrize("invoke", [0, 1, 0x7F, 0x80, 0xFFFF, 0xFFFFFFFF])
def test_invoke_ids(invoke: int) -> None:
    assert services.frame(request(GOOD, invoke)).invoke_id == invoke


def test_every_length_that_is_usual_is_read() -> None:
    """Minimal or with up to four octets: stacks differ."""
    for head in (b"\x81", b"\x82\x00", b"\x83\x00\x00", b"\x84\x00\x00\x00"):
        pdu = b"\xa0" + head + request(GOOD)[1:]
        assert services.parse(pdu[services.frame(pdu).body :]) == services.parse(GOOD)


@pytest.mark.parametrize("item", ["GGIO1$ST\x00$CO", "GGIO1$CO\x00", "a b", "a/b"])
def test_odd_characters_come_through_as_they_are(item: str) -> None:
    """They are judged later, not changed here."""
    assert services.parse(read(variables(item))).names == (Name(LD, item),)


@pytest.mark.parametrize("number", services.NAMES)
def test_no_truncation_raises_anything_else(number: int) -> None:
    body = usual(number)
    for end in range(len(body)):
        try:
            services.parse(body[:end])
        except DecodeError:
            continue
        raise AssertionError(f"{body[:end].hex()} was read")


@given(st.binary(max_size=120))
def test_any_octets(body: bytes) -> None:
    try:
        found = services.parse(body)
    except DecodeError:
        return
    assert found.service == "unknown" or found.service in services.NAMES.values()


@given(st.sampled_from(sorted(CONTENT)), st.integers(0, 60), st.binary(min_size=1, max_size=3))
def test_any_damage(which: str, at: int, octets: bytes) -> None:
    number = next(number for number, word in services.NAMES.items() if word == which)
    body = usual(number)
    damaged = body[:at] + octets + body[at + len(octets) :]
    try:
        found = services.parse(damaged)
    except DecodeError:
        return
    for entry in (*found.names, *((found.list_name,) if found.list_name else ())):
        assert entry.item or entry.domain


# --- real clients -----------------------------------------------------------------------------------------------------
def mms_of(capture: Path) -> list[bytes]:
    """The MMS PDUs in a capture of one packet per PDU: found by their presentation header."""
    data, found, at = capture.read_bytes(), [], 0
    magic = data[:4]
    order = "<" if magic == b"\xd4\xc3\xb2\xa1" else ">"
    at = 24
    while at < len(data):
        size = struct.unpack_from(f"{order}I", data, at + 8)[0]
        packet = data[at + 16 : at + 16 + size]
        at += 16 + size
        start = packet.find(b"\x02\x01\x03\xa0")
        if start >= 0 and b"\x01\x00\x01\x00\x61" in packet:
            length = packet[start + 4]
            found.append(packet[start + 5 + (length & 0x7F if length & 0x80 else 0) :])
    return found


@pytest.mark.parametrize(
    ("capture", "wanted"),
    [
        ("iti_iec61850_read.pcap", "read"),
        ("iti_iec61850_write.pcap", "write"),
        ("iti_iec61850_get_name_list.pcap", "getNameList"),
        ("iti_iec61850_get_variable_access_attributes.pcap", "getVariableAccessAttributes"),
    ],
)
def test_requests_of_a_real_client(capture: str, wanted: str) -> None:
    requests = [pdu for pdu in mms_of(CAPTURES / capture) if pdu[:1] == b"\xa0"]
    assert requests
    for pdu in requests:
        found = services.parse(pdu[services.frame(pdu).body :])
        assert found.service == wanted
        assert not found.odd


def test_integers_of_the_helper() -> None:
    assert integer(128) == b"\x02\x02\x00\x80"
