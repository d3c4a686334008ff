"""Reading of MMS service requests (ISO 9506-2), as far as access control has to know them: which service on which
objects.

Strict, because the server behind reads the same octets with a decoder of its own: what could be understood in two ways
is malformed here. What is well-formed but unknown, or names its objects in a way that says nothing about them, is
``odd``. Values and types are not read: they decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from fastsec import limits
from fastsec._core.cursor import Reader
from fastsec.errors import DecodeError

CONFIRMED_REQUEST: Final = 0xA0
_STEP: Final = "MMS request"
_KNOWN_MAX: Final = 200  # octets of an entry of listOfVariable that is remembered
_HEADER_MAX: Final = 7  # two identifier octets and five length octets: more is nobody's usual encoding

# ConfirmedServiceRequest: the number of its tag and its name. Those in _PRIMITIVE have no constructed content.
NAMES: Final[dict[int, str]] = {
    0: "status", 1: "getNameList", 2: "identify", 3: "rename", 4: "read", 5: "write",
    6: "getVariableAccessAttributes", 7: "defineNamedVariable", 8: "defineScatteredAccess",
    9: "getScatteredAccessAttributes", 10: "deleteVariableAccess", 11: "defineNamedVariableList",
    12: "getNamedVariableListAttributes", 13: "deleteNamedVariableList", 14: "defineNamedType",
    15: "getNamedTypeAttributes", 16: "deleteNamedType", 17: "input", 18: "output", 19: "takeControl",
    20: "relinquishControl", 21: "defineSemaphore", 22: "deleteSemaphore", 23: "reportSemaphoreStatus",
    24: "reportPoolSemaphoreStatus", 25: "reportSemaphoreEntryStatus", 26: "initiateDownloadSequence",
    27: "downloadSegment", 28: "terminateDownloadSequence", 29: "initiateUploadSequence", 30: "uploadSegment",
    31: "terminateUploadSequence", 32: "requestDomainDownload", 33: "requestDomainUpload", 34: "loadDomainContent",
    35: "storeDomainContent", 36: "deleteDomain", 37: "getDomainAttributes", 38: "createProgramInvocation",
    39: "deleteProgramInvocation", 40: "start", 41: "stop", 42: "resume", 43: "reset", 44: "kill",
    45: "getProgramInvocationAttributes", 46: "obtainFile", 47: "defineEventCondition", 48: "deleteEventCondition",
    49: "getEventConditionAttributes", 50: "reportEventConditionStatus", 51: "alterEventConditionMonitoring",
    52: "triggerEvent", 53: "defineEventAction", 54: "deleteEventAction", 55: "getEventActionAttributes",
    56: "reportEventActionStatus", 57: "defineEventEnrollment", 58: "deleteEventEnrollment",
    59: "alterEventEnrollment", 60: "reportEventEnrollmentStatus", 61: "getEventEnrollmentAttributes",
    62: "acknowledgeEventNotification", 63: "getAlarmSummary", 64: "getAlarmEnrollmentSummary", 65: "readJournal",
    66: "writeJournal", 67: "initializeJournal", 68: "reportJournalStatus", 69: "createJournal", 70: "deleteJournal",
    71: "getCapabilityList", 72: "fileOpen", 73: "fileRead", 74: "fileClose", 75: "fileRename", 76: "fileDelete",
    77: "fileDirectory", 78: "additionalService", 80: "getDataExchangeAttributes", 81: "exchangeData",
    82: "defineAccessControlList", 83: "getAccessControlListAttributes", 84: "reportAccessControlledObjects",
    85: "deleteAccessControlList", 86: "changeAccessControl",
}  # fmt: skip
_PRIMITIVE: Final = frozenset((0, 2, 27, 29, 30, 31, 36, 37, 39, 45, 73, 74, 85))


def tag_of(number: int) -> int:
    """The tag of the confirmed service with this number, as ``Reader`` gives it."""
    form = 0x80 if number in _PRIMITIVE else 0xA0
    return form | number if number < 31 else (form | 0x1F) << 8 | number


BY_TAG: Final[dict[int, str]] = {tag_of(number): name for number, name in NAMES.items()}
READ: Final = tag_of(4)
WRITE: Final = tag_of(5)


class Name(NamedTuple):
    """An ObjectName.

    Attributes:
        domain: the logical device of a domain-specific name, ``""`` of a VMD-specific one, ``"@"`` of one that exists
            within the association only (aa-specific).
        item: e.g. ``GGIO1$ST$Ind1$stVal``; empty where a whole domain is meant.
    """

    domain: str
    item: str

    def __str__(self) -> str:
        return f"{self.domain}/{self.item}" if self.domain else self.item


class Request(NamedTuple):
    """A confirmed request.

    Attributes:
        service: its name, or ``unknown``.
        names: the objects it names; where it names a list of variables, ``list_name`` is its name.
        variables: so many results the answer of read or write has to have; 0 where the members of a list are not known.
        list_name: of read, write and defineNamedVariableList: the named variable list.
        all_of: it is for every object of a kind, not for named ones (deleteNamedVariableList).
        file: of the file services, for the log.
        odd: why it cannot be told what it does, or empty.
    """

    service: str
    names: tuple[Name, ...] = ()
    variables: int = 0
    list_name: Name | None = None
    all_of: bool = False
    file: str = ""
    odd: str = ""


class Framed(NamedTuple):
    """A confirmed-RequestPDU, not looked into: its invokeID and where in the PDU what follows that begins."""

    invoke_id: int
    body: int


def frame(pdu: bytes) -> Framed:
    """The invokeID of a confirmed-RequestPDU and where its service begins.

    Errors:
        DecodeError: it is none, or malformed.
    """
    whole = Reader(pdu, step=_STEP)
    whole.expect(CONFIRMED_REQUEST)
    whole.finish()
    inner = whole.enter()
    invoke_id = inner.integer()
    # Of the two lengths together at most four octets are more than needed.
    if not 0 <= invoke_id <= 0xFFFFFFFF or inner.start > 8:
        raise DecodeError("invokeID is no Unsigned32", step=_STEP)
    return Framed(invoke_id, inner.pos)


def parse(body: bytes) -> Request:
    """What a confirmed request asks for.

    Arguments:
        body: what follows its invokeID.
    Errors:
        DecodeError: malformed.
    """
    reader = Reader(body, step=_STEP)
    tag = _next(reader)
    if tag == 0x30:
        return Request("unknown", odd="modifiers")  # attach the service to an event or a semaphore
    service = BY_TAG.get(tag)
    if service is None:
        return Request("unknown", odd=f"service tag {tag:X}")
    content = _CONTENT.get(service)
    found = Request(service) if content is None else content(service, reader)
    if reader.more():
        if reader.next() == 0xBF4F:  # service-ext, Request-Detail
            reader.finish()
            return found._replace(odd="extension of the service")
        raise DecodeError("something after the service", step=_STEP)
    return found


# --- levels -----------------------------------------------------------------------------------------------------------
def _next(reader: Reader) -> int:
    """Go to the next TLV; its length has to be written in a way that every decoder understands."""
    tag = reader.next()
    if reader.start - reader.first > _HEADER_MAX:
        raise DecodeError(f"a length of {reader.start - reader.first} octets", step=_STEP)
    return tag


def _expect(reader: Reader, tag: int) -> Reader:
    """Go to the next TLV, which must have this tag, and into it."""
    if _next(reader) != tag:
        raise DecodeError(f"tag {tag:02X} wanted, {reader.tag:02X} found (octet {reader.first})", step=_STEP)
    return reader.enter()


def _identifier(reader: Reader, tag: int) -> str:
    """An Identifier: VisibleString. Which characters it may have is judged later."""
    if reader.peek() != tag:
        raise DecodeError(f"identifier missing (octet {reader.pos})", step=_STEP)
    text = reader.text(tag, limits.OUR_MMS_IDENTIFIER_MAX)
    if reader.start - reader.first > _HEADER_MAX or not text:
        raise DecodeError(f"not an identifier (octet {reader.first})", step=_STEP)
    return text


def _object_name(reader: Reader) -> Name:
    """The next TLV, an ObjectName."""
    tag = reader.peek()
    if tag == 0xA1:
        inner = _expect(reader, 0xA1)
        name = Name(_identifier(inner, 0x1A), _identifier(inner, 0x1A))
        inner.finish()
        return name
    if tag == 0x80:
        return Name("", _identifier(reader, 0x80))
    if tag == 0x82:
        return Name("@", _identifier(reader, 0x82))
    raise DecodeError(f"tag {tag:02X} is no ObjectName (octet {reader.pos})", step=_STEP)


def _only_name(reader: Reader) -> Name:
    """The ObjectName that is all of a level."""
    name = _object_name(reader)
    reader.finish()
    return name


# --- variables --------------------------------------------------------------------------------------------------------
def _variables(members: Reader) -> tuple[tuple[Name, ...], int, str]:
    """listOfVariable: its names, how many variables, and what is odd about it.

    An alternate access picks parts of the variable that is named; who may access it whole may access those.
    """
    names: list[Name] = []
    count, odd = 0, ""
    while members.more():
        count += 1
        members.next()
        if count > limits.OUR_MMS_VARIABLES_MAX:
            odd = f"more than {limits.OUR_MMS_VARIABLES_MAX} variables"
            continue
        raw = members.raw()
        name = _known_variable(raw) if len(raw) <= _KNOWN_MAX else _variable(raw)
        if name is None:
            odd = "a variable without a name"
        else:
            names.append(name)
    return tuple(names), count, odd


def _variable(raw: bytes) -> Name | None:
    """The name in an entry of listOfVariable, None where it goes by an address or a description."""
    entry = _expect(Reader(raw, step=_STEP), 0x30)
    specification = _next(entry)
    name = None
    if specification == 0xA0:
        name = _only_name(entry.enter())
    elif specification not in (0xA1, 0xA2, 0xA3, 0x84):
        raise DecodeError(f"tag {specification:02X} is no VariableSpecification", step=_STEP)
    if entry.more() and _next(entry) != 0xA5:
        raise DecodeError(f"tag {entry.tag:02X} is no AlternateAccess", step=_STEP)
    entry.finish()
    return name


_known_variable = lru_cache(maxsize=4096)(_variable)  # clients ask for the same ones again and again


def _accessed(service: str, reader: Reader) -> Request:
    """VariableAccessSpecification, the next TLV."""
    tag = _next(reader)
    inner = reader.enter()
    if tag == 0xA0:
        names, count, odd = _variables(inner)
        return Request(service, names, count, odd=odd if count else "no variables")
    if tag == 0xA1:
        return Request(service, list_name=_only_name(inner))
    raise DecodeError(f"tag {tag:02X} is no VariableAccessSpecification", step=_STEP)


def _read(service: str, reader: Reader) -> Request:
    inner = reader.enter()
    if inner.more() and inner.peek() == 0x80:
        inner.boolean(0x80)  # specificationWithResult
    access = _expect(inner, 0xA1)
    inner.finish()
    found = _accessed(service, access)
    access.finish()
    return found


def _write(service: str, reader: Reader) -> Request:
    inner = reader.enter()
    found = _accessed(service, inner)
    _expect(inner, 0xA0)  # the values
    inner.finish()
    return found


def _define_list(service: str, reader: Reader) -> Request:
    inner = reader.enter()
    list_name = _object_name(inner)
    names, count, odd = _variables(_expect(inner, 0xA0))
    inner.finish()
    return Request(service, names, count, list_name, odd=odd)


def _delete_lists(service: str, reader: Reader) -> Request:
    inner = reader.enter()
    scope = inner.integer(0x80) if inner.more() and inner.peek() == 0x80 else 0
    names: list[Name] = []
    if inner.more() and inner.peek() == 0xA1:
        lists = _expect(inner, 0xA1)
        while lists.more():
            names.append(_object_name(lists))
            if len(names) > limits.OUR_MMS_VARIABLES_MAX:
                raise DecodeError("too many lists", step=_STEP)
    if inner.more():
        names.append(Name(_identifier(inner, 0x82), ""))
    inner.finish()
    return Request(service, tuple(names), all_of=scope != 0 or not names)


# --- names ------------------------------------------------------------------------------------------------------------
def _attributes(service: str, reader: Reader) -> Request:
    """getVariableAccessAttributes: by name or by address."""
    inner = reader.enter()
    tag = _next(inner)
    if tag == 0xA1:
        inner.finish()
        return Request(service, odd="a variable without a name")
    if tag != 0xA0:
        raise DecodeError(f"tag {tag:02X} is neither name nor address", step=_STEP)
    name = _only_name(inner.enter())
    inner.finish()
    return Request(service, (name,))


def _named(service: str, reader: Reader) -> Request:
    return Request(service, (_only_name(reader.enter()),))


def _name_list(service: str, reader: Reader) -> Request:
    """getNameList: the domain, where it is for one."""
    inner = reader.enter()
    kind = _expect(inner, 0xA0)
    kind.next()
    kind.finish()
    scope = _expect(inner, 0xA1)
    tag = scope.peek()
    names: tuple[Name, ...] = ()
    if tag == 0x81:
        names = (Name(_identifier(scope, 0x81), ""),)
    elif tag in (0x80, 0x82):
        scope.null(tag)
    else:
        raise DecodeError(f"tag {tag:02X} is no objectScope", step=_STEP)
    scope.finish()
    if inner.more():
        _identifier(inner, 0x82)  # continueAfter
    inner.finish()
    return Request(service, names)


def _journal(service: str, reader: Reader) -> Request:
    """The journal services that name their journal first, in an explicit [0]."""
    inner = reader.enter()
    return Request(service, (_only_name(_expect(inner, 0xA0)),))


# --- files ------------------------------------------------------------------------------------------------------------
def _file_name(reader: Reader) -> str:
    """FileName, a sequence of GraphicString; only for the log."""
    parts: list[str] = []
    while reader.more() and len(parts) < 8:
        if reader.next() != 0x19:
            raise DecodeError(f"tag {reader.tag:02X} in a file name", step=_STEP)
        parts.append(reader.value()[:256].decode("latin-1"))
    return "".join(parts)


def _file(service: str, reader: Reader) -> Request:
    """fileOpen, fileRename, fileDirectory: the first name, in [0]."""
    inner = reader.enter()
    named = inner.more() and inner.peek() == 0xA0
    return Request(service, file=_file_name(_expect(inner, 0xA0)) if named else "")


def _file_itself(service: str, reader: Reader) -> Request:
    """fileDelete: the name is all there is."""
    return Request(service, file=_file_name(reader.enter()))


def _obtain(service: str, reader: Reader) -> Request:
    """obtainFile: [0] the file server, [1] the file there, [2] the file here."""
    inner = reader.enter()
    while inner.more():
        if inner.next() == 0xA2:
            return Request(service, file=_file_name(inner.enter()))
    raise DecodeError("no destinationFile", step=_STEP)


_CONTENT: Final[dict[str, Callable[[str, Reader], Request]]] = {
    "read": _read,
    "write": _write,
    "getVariableAccessAttributes": _attributes,
    "defineNamedVariableList": _define_list,
    "getNamedVariableListAttributes": _named,
    "deleteNamedVariableList": _delete_lists,
    "getNameList": _name_list,
    "readJournal": _journal,
    "writeJournal": _journal,
    "initializeJournal": _journal,
    "reportJournalStatus": _named,
    "createJournal": _journal,
    "deleteJournal": _journal,
    "fileOpen": _file,
    "fileRename": _file,
    "fileDirectory": _file,
    "fileDelete": _file_itself,
    "obtainFile": _obtain,
}
