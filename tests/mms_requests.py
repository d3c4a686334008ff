"""MMS service requests for tests, written by hand from the syntax of ISO 9506-2."""

from __future__ import annotations

from fastsec._core.cursor import tlv
from fastsec.mms import services

LD = "A1LD0"
NULL_TIME = bytes(6)


def integer(value: int, tag: int = 2) -> bytes:
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def name(item: str | bytes, domain: str | bytes | None = LD) -> bytes:
    """An ObjectName: domain-specific, VMD-specific (None) or aa-specific (``"@"``)."""
    octets = item.encode() if isinstance(item, str) else item
    if domain is None:
        return tlv(0x80, octets)
    if domain == "@":
        return tlv(0x82, octets)
    where = domain.encode() if isinstance(domain, str) else domain
    return tlv(0xA1, tlv(0x1A, where) + tlv(0x1A, octets))


def variable(item: str | bytes | None, domain: str | bytes | None = LD, alternate: bytes = b"") -> bytes:
    """An entry of listOfVariable; None: one that goes by its address."""
    return tlv(0x30, (tlv(0xA1, tlv(0x80, b"\x01")) if item is None else tlv(0xA0, name(item, domain))) + alternate)


def variables(*items: str | bytes | None) -> bytes:
    return tlv(0xA0, b"".join(map(variable, items)))


def list_of(item: str, domain: str | None = LD) -> bytes:
    """A VariableAccessSpecification that names a list."""
    return tlv(0xA1, name(item, domain))


def request(body: bytes, invoke: int = 7) -> bytes:
    return tlv(0xA0, integer(invoke) + body)


def read(access: bytes, with_result: bytes = b"") -> bytes:
    return tlv(0xA4, with_result + tlv(0xA1, access))


def write(access: bytes, count: int = 1) -> bytes:
    return tlv(0xA5, access + tlv(0xA0, tlv(0x83, b"\xff") * count))


def service(number: int, content: bytes = b"") -> bytes:
    """Any service by its number."""
    return tlv(services.tag_of(number), content)


def get_name_list(domain: str | None = LD, after: str = "") -> bytes:
    scope = tlv(0x80, b"") if domain is None else tlv(0x81, domain.encode())
    more = tlv(0x82, after.encode()) if after else b""
    return service(1, tlv(0xA0, tlv(0x80, b"\x00")) + tlv(0xA1, scope) + more)


# A well-formed request of every confirmed service; what is not read of it is left out.
CONTENT: dict[str, bytes] = {
    "status": b"\x00",
    "getNameList": get_name_list()[2:],
    "read": read(variables("GGIO1$ST$Ind1"))[2:],
    "write": write(variables("GGIO1$CF$Ind1"))[2:],
    "getVariableAccessAttributes": tlv(0xA0, name("GGIO1")),
    "defineNamedVariableList": name("LLN0$ds") + variables("GGIO1$ST$Ind1"),
    "getNamedVariableListAttributes": name("LLN0$ds"),
    "deleteNamedVariableList": tlv(0xA1, name("LLN0$ds")),
    "readJournal": tlv(0xA0, name("LLN0$EventLog")) + tlv(0xA1, tlv(0x80, NULL_TIME)),
    "writeJournal": tlv(0xA0, name("LLN0$EventLog")) + tlv(0xA1, b""),
    "initializeJournal": tlv(0xA0, name("LLN0$EventLog")),
    "reportJournalStatus": name("LLN0$EventLog"),
    "createJournal": tlv(0xA0, name("LLN0$EventLog")),
    "deleteJournal": tlv(0xA0, name("LLN0$EventLog")),
    "fileOpen": tlv(0xA0, tlv(0x19, b"/COMTRADE/1.cfg")) + integer(0, 0x81),
    "fileRead": b"\x01",
    "fileClose": b"\x01",
    "fileRename": tlv(0xA0, tlv(0x19, b"a")) + tlv(0xA1, tlv(0x19, b"b")),
    "fileDelete": tlv(0x19, b"/COMTRADE/1.cfg"),
    "fileDirectory": b"",
    "obtainFile": tlv(0xA1, tlv(0x19, b"there")) + tlv(0xA2, tlv(0x19, b"here")),
}


def usual(number: int) -> bytes:
    """A well-formed request of the service with this number, without its invokeID."""
    return service(number, CONTENT.get(services.NAMES[number], b""))
