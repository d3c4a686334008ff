"""The judge: may these roles do what this MMS PDU asks for, and if not, what is the answer?

Answers are those of a server that denies by itself (IEC 61850-8-1): read and write are answered item by item with a
data access error, everything else with a confirmed-Error of class access, malformed requests with a RejectPDU. Read and
write are all or nothing: one object that is denied denies the request.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fastsec import limits
from fastsec._core.cursor import Writer
from fastsec.access import needs, rights
from fastsec.access.policy import AccessPolicy, Held
from fastsec.access.rights import Right
from fastsec.errors import DecodeError
from fastsec.mms import pdu as mms
from fastsec.mms import services
from fastsec.mms.pdu import Kind
from fastsec.mms.services import Name, Request
from fastsec.pki.roles import RoleGrant

# ServiceError.errorClass access and DataAccessError (ISO 9506-2): denied, and absent for who may not even list objects.
ACCESS_DENIED: Final = 3
ACCESS_NON_EXISTENT: Final = 2
DATA_DENIED: Final = 3
DATA_NON_EXISTENT: Final = 10
_OBJECT_MAX: Final = 128

# Other PDUs that a client may send. None of them is a service request: they end what is under way, answer the server's
# own requests (it fetches a file after obtainFile), or refuse them.
PASSED: Final = frozenset(
    map(
        int,
        (
            Kind.CONFIRMED_RESPONSE, Kind.CONFIRMED_ERROR, Kind.REJECT, Kind.CANCEL_REQUEST, Kind.CANCEL_RESPONSE,
            Kind.CANCEL_ERROR, Kind.CONCLUDE_REQUEST, Kind.CONCLUDE_RESPONSE, Kind.CONCLUDE_ERROR,
        ),
    )
)  # fmt: skip

_ANSWERED: Final = frozenset((None, Kind.INITIATE_REQUEST, Kind.CANCEL_REQUEST, Kind.CONCLUDE_REQUEST))


class Denial(NamedTuple):
    """Why a request is denied.

    Attributes:
        service: its name.
        object: the first object it is about that is denied, as text; may be empty, may be anything a peer sent.
        missing: the rights that would have been needed, none where no right would do.
        reason: in words, for the log.
        variables: those whose access results the answer has to have; 0: a confirmed-Error or a RejectPDU.
        absent: the answer says that the object does not exist.
        malformed: the answer is a RejectPDU.
    """

    service: str
    object: str
    missing: Right
    reason: str
    variables: int = 0
    absent: bool = False
    malformed: bool = False


def judge(request: Request, held: Held, unknown: str) -> Denial | None:
    """Whether whoever holds these rights may do this; None: yes."""
    service = request.service
    if request.odd or service not in needs.SERVICES:
        return _unclear(request, held, unknown, request.odd or f"what {service} does is not known")
    need = int(needs.SERVICES[service])
    if service in ("read", "write", "defineNamedVariableList"):
        return _judge_variables(request, need, held, unknown)
    if request.all_of:
        need |= needs.CONFIG
    for name in request.names:
        if not needs.is_usual(name) and (denial := _unclear(request, held, unknown, "an unusual name", name)):
            return denial
        needed = needs.of_journal(service, name) if "ournal" in service else need
        if missing := held.missing(needed, None if request.all_of else name):
            return _denied(request, held, missing, "", name)
    if not request.names and (missing := held.missing(need, None)):
        return _denied(request, held, missing, "", request.file)
    return None


def _judge_variables(request: Request, need: int, held: Held, unknown: str) -> Denial | None:
    """Read, write and the definition of a list: each variable by its name, and the list."""
    writing = request.service == "write"
    for name in request.names:
        variable = needs.of_variable(name, writing)
        if variable is None:
            if denial := _unclear(request, held, unknown, "what this variable is cannot be told", name):
                return denial
        elif missing := held.missing(variable, name):
            return _denied(request, held, missing, "", name)
    name_of_list = request.list_name
    if name_of_list is None:
        return None
    if not needs.is_usual(name_of_list) and (
        denial := _unclear(request, held, unknown, "an unusual name", name_of_list)
    ):
        return denial
    missing = held.missing(need or needs.of_list(writing), name_of_list)
    return _denied(request, held, missing, "", name_of_list) if missing else None


def _denied(request: Request, held: Held, missing: int, reason: str, about: Name | str = "") -> Denial:
    absent = not held.everywhere & Right.LISTOBJECTS
    count = request.variables if request.service in ("read", "write") else 0
    return Denial(request.service, str(about)[:_OBJECT_MAX], Right(missing), reason, count, absent)


def _unclear(request: Request, held: Held, unknown: str, reason: str, about: Name | None = None) -> Denial | None:
    """What it does cannot be told."""
    missing = int(rights.ALL) if unknown == "deny" else held.missing(int(rights.ALL), None)
    if not missing:
        return None
    return _denied(request, held, missing, reason, about or (request.names[0] if request.names else ""))


def answer(invoke_id: int, denial: Denial) -> bytes:
    """The PDU with which a server would deny it."""
    writer = Writer()
    if denial.variables:
        code = DATA_NON_EXISTENT if denial.absent else DATA_DENIED
        results = bytes((0x80, 1, code)) * denial.variables
        writer.begin(Kind.CONFIRMED_RESPONSE)
        writer.integer(invoke_id)
        if denial.service == "read":
            writer.begin(services.READ)
            writer.primitive(0xA1, results)
            writer.end()
        else:
            writer.primitive(services.WRITE, results)
        writer.end()
        return writer.getvalue()
    writer.begin(Kind.CONFIRMED_ERROR)
    writer.integer(invoke_id, 0x80)
    writer.begin(0xA2)
    writer.begin(0xA0)
    writer.integer(ACCESS_NON_EXISTENT if denial.absent else ACCESS_DENIED, 0x87)
    writer.end()
    writer.end()
    writer.end()
    return writer.getvalue()


class Judge:
    """Judges the PDUs of associations whose peers have one set of roles, and remembers verdicts.

    Arguments:
        policy: the map.
        roles: verified ones.
    """

    __slots__ = ("_known", "_unknown", "held", "roles")

    def __init__(self, policy: AccessPolicy, roles: tuple[RoleGrant, ...]) -> None:
        self.roles = roles
        self.held = Held(policy.grants_of(roles))
        self._unknown = policy.unknown
        self._known: dict[bytes, Denial | None] = {}

    def refusal(self, pdu: bytes) -> tuple[Denial, bytes | None] | None:
        """None: ``pdu`` may go on. Otherwise why it may not, and the answer, None where MMS knows no answer."""
        first = pdu[0] if pdu else 0
        if first != Kind.CONFIRMED_REQUEST:
            return None if first in PASSED and mms.is_one_pdu(pdu) else _no_request(pdu)
        try:
            invoke_id, at = services.frame(pdu)
        except DecodeError as error:
            return _malformed(pdu, error)
        body = pdu[at:]
        known = self._known
        try:
            denial = known[body]
        except KeyError:
            try:
                request = services.parse(body)
            except DecodeError as error:
                return _malformed(pdu, error)
            denial = judge(request, self.held, self._unknown)
            # Clients ask the same again and again, but write other values each time.
            if len(body) <= limits.OUR_ACCESS_VERDICT_OCTETS and request.service != "write":
                if len(known) >= limits.OUR_ACCESS_VERDICTS:
                    known.clear()
                known[body] = denial
        return None if denial is None else (denial, answer(invoke_id, denial))


class Judges:
    """A judge for each set of roles; what it holds is bounded.

    Arguments:
        policy: the map.
    """

    def __init__(self, policy: AccessPolicy) -> None:
        self.policy = policy
        self._judges: dict[tuple[RoleGrant, ...], Judge] = {}

    def of(self, roles: tuple[RoleGrant, ...]) -> Judge:
        """The judge of those who have these roles."""
        found = self._judges.get(roles)
        if found is None:
            if len(self._judges) >= limits.OUR_ACCESS_SETS:
                self._judges.clear()
            found = self._judges[roles] = Judge(self.policy, roles)
        return found


def _malformed(pdu: bytes, error: DecodeError) -> tuple[Denial, bytes]:
    denial = Denial("malformed", "", Right(0), str(error), malformed=True)
    return denial, mms.reject_for(pdu)


def _no_request(pdu: bytes) -> tuple[Denial, bytes | None]:
    """A PDU that no client sends in an open association, or that is none. Answers are never answered."""
    kind = mms.kind_of(pdu)
    if kind is Kind.UNCONFIRMED:
        return Denial("unconfirmed", "", rights.ALL, "no client sends unconfirmed services"), None
    name = "malformed" if kind is None else kind.name.lower().replace("_", "-")
    denial = Denial(name, "", Right(0), "not a PDU that a client may send here", malformed=True)
    return denial, mms.reject_for(pdu) if kind in _ANSWERED else None
