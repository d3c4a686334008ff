"""Access policy: every service and every functional constraint, roles, restrictions, answers; hostile requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec import limits
from fastsec._core.cursor import tlv
from fastsec.access import needs, rights
from fastsec.access.judge import PASSED, Judge, Judges
from fastsec.access.policy import AccessPolicy, Grant, Held, ObjectPattern
from fastsec.access.rights import Right
from fastsec.errors import ConfigError
from fastsec.mms import pdu as mms
from fastsec.mms import services
from fastsec.mms.pdu import Kind
from fastsec.mms.services import Name
from fastsec.pki.roles import RoleGrant
from mms_requests import LD, get_name_list, list_of, name, read, request, service, usual, variable, variables, write

NUMBERS = {word: number for number, word in services.NAMES.items()}


def role(number: int, *, definition: str = "IEC62351-8", revision: int = 0) -> RoleGrant:
    return RoleGrant(number, "", revision, definition, "certificate")


def holder(*grants: str, unknown: str = "deny", default: tuple[str, ...] = ()) -> Judge:
    """The judge of somebody with these rights."""
    policy = AccessPolicy(
        roles=((1, tuple(map(Grant.parse, grants))),),
        default=tuple(map(Grant.parse, default)),
        unknown=unknown,  # type: ignore[arg-type]
    )
    return Judge(policy, (role(1),))


def of_role(number: int) -> Judge:
    return Judge(AccessPolicy(), (role(number),))


VIEWER, OPERATOR, ENGINEER, INSTALLER, SECADM, SECAUD, RBACMNT = map(of_role, range(7))
NOBODY = Judge(AccessPolicy(), ())


def needed(body: bytes) -> str:
    """The fewest rights that let a request pass, found by trying: first all, then one less each."""
    held = rights.ALL
    if holder(*words(held)).refusal(request(body)) is not None:
        return "nothing does"
    for right in Right:
        if holder(*words(held & ~right)).refusal(request(body)) is None:
            held &= ~right
    return rights.names(held)


def words(held: Right) -> list[str]:
    return [right.name for right in Right if held & right and right.name]


def passes(judge: Judge, body: bytes) -> bool:
    return judge.refusal(request(body)) is None


def answer_of(judge: Judge, body: bytes, invoke: int = 7) -> bytes:
    refusal = judge.refusal(request(body, invoke))
    assert refusal is not None
    assert refusal[1] is not None
    return refusal[1]


# --- services ---------------------------------------------------------------------------------------------------------
STRICT = "CONTROL, CONFIG"
SERVICES = {
    "status": "", "identify": "LISTOBJECTS", "getNameList": "LISTOBJECTS", "getCapabilityList": "LISTOBJECTS",
    "rename": "CONFIG", "read": "READVALUES", "write": "CONFIG",  # of one ST and one CF
    "getVariableAccessAttributes": "LISTOBJECTS", "defineNamedVariable": STRICT, "defineScatteredAccess": STRICT,
    "getScatteredAccessAttributes": "LISTOBJECTS", "deleteVariableAccess": STRICT,
    "defineNamedVariableList": "READVALUES, DATASET", "getNamedVariableListAttributes": "LISTOBJECTS",
    "deleteNamedVariableList": "DATASET", "defineNamedType": "CONFIG", "getNamedTypeAttributes": "LISTOBJECTS",
    "deleteNamedType": "CONFIG", "input": "CONTROL", "output": "CONTROL", "takeControl": "CONTROL",
    "relinquishControl": "CONTROL", "defineSemaphore": STRICT, "deleteSemaphore": STRICT,
    "reportSemaphoreStatus": "READVALUES", "reportPoolSemaphoreStatus": "READVALUES",
    "reportSemaphoreEntryStatus": "READVALUES", "initiateDownloadSequence": "FILEWRITE, CONFIG",
    "downloadSegment": "FILEWRITE, CONFIG", "terminateDownloadSequence": "FILEWRITE, CONFIG",
    "initiateUploadSequence": "FILEREAD, CONFIG", "uploadSegment": "FILEREAD, CONFIG",
    "terminateUploadSequence": "FILEREAD, CONFIG", "requestDomainDownload": "FILEWRITE, CONFIG",
    "requestDomainUpload": "FILEREAD, CONFIG", "loadDomainContent": "FILEWRITE, CONFIG",
    "storeDomainContent": "FILEWRITE, CONFIG", "deleteDomain": "FILEMGMT, CONFIG", "getDomainAttributes": "LISTOBJECTS",
    "createProgramInvocation": STRICT, "deleteProgramInvocation": STRICT, "start": STRICT, "stop": STRICT,
    "resume": STRICT, "reset": STRICT, "kill": STRICT, "getProgramInvocationAttributes": "LISTOBJECTS",
    "obtainFile": "FILEWRITE", "defineEventCondition": "CONFIG", "deleteEventCondition": "CONFIG",
    "getEventConditionAttributes": "LISTOBJECTS", "reportEventConditionStatus": "READVALUES",
    "alterEventConditionMonitoring": "CONFIG", "triggerEvent": STRICT, "defineEventAction": STRICT,
    "deleteEventAction": STRICT, "getEventActionAttributes": "LISTOBJECTS", "reportEventActionStatus": "READVALUES",
    "defineEventEnrollment": STRICT, "deleteEventEnrollment": STRICT, "alterEventEnrollment": STRICT,
    "reportEventEnrollmentStatus": "READVALUES", "getEventEnrollmentAttributes": "LISTOBJECTS",
    "acknowledgeEventNotification": "CONTROL", "getAlarmSummary": "READVALUES",
    "getAlarmEnrollmentSummary": "READVALUES", "readJournal": "READVALUES", "writeJournal": "CONFIG, SECURITY",
    "initializeJournal": "CONFIG, SECURITY", "reportJournalStatus": "READVALUES", "createJournal": "CONFIG, SECURITY",
    "deleteJournal": "CONFIG, SECURITY", "fileOpen": "FILEREAD", "fileRead": "FILEREAD", "fileClose": "",
    "fileRename": "FILEMGMT", "fileDelete": "FILEMGMT", "fileDirectory": "FILEREAD",
    "additionalService": "nothing does", "getDataExchangeAttributes": "LISTOBJECTS", "exchangeData": STRICT,
    "defineAccessControlList": "SECURITY", "getAccessControlListAttributes": "SECURITY",
    "reportAccessControlledObjects": "SECURITY", "deleteAccessControlList": "SECURITY",
    "changeAccessControl": "SECURITY",
}  # fmt: skip


def test_every_service_is_classified() -> None:
    assert set(SERVICES) == set(services.NAMES.values())
    assert set(needs.SERVICES) | needs.UNKNOWN_SERVICES == set(services.NAMES.values())


@pytest.mark.parametrize("word", SERVICES)
def test_what_each_service_needs(word: str) -> None:
    assert needed(usual(NUMBERS[word])) == SERVICES[word]


def test_the_security_log_is_not_for_everyone() -> None:
    for item in ("LLN0$SECAUD", "SECAUD", "LLN0$secaud"):
        journal = service(65, tlv(0xA0, name(item)))
        assert needed(journal) == "SECURITY"
        assert passes(SECAUD, journal) == (item == "LLN0$SECAUD")
    assert not passes(SECAUD, usual(NUMBERS["readJournal"]))
    assert passes(VIEWER, usual(NUMBERS["readJournal"]))
    assert not passes(SECAUD, usual(NUMBERS["changeAccessControl"]))
    assert not passes(SECAUD, service(67, tlv(0xA0, name("LLN0$SECAUD"))))  # it deletes entries


# --- functional constraints -------------------------------------------------------------------------------------------
WRITES = {
    "ST": STRICT, "MX": STRICT, "CO": "CONTROL", "SP": "CONFIG", "SG": "SETTINGGROUP", "SE": "SETTINGGROUP",
    "SV": "CONTROL", "BL": "CONTROL", "CF": "CONFIG", "DC": "CONFIG", "EX": "CONFIG", "OR": STRICT, "SR": STRICT,
    "RP": "REPORTING", "BR": "REPORTING", "LG": "CONFIG", "GO": "CONFIG", "GS": "CONFIG", "MS": "CONFIG",
    "US": "CONFIG",
}  # fmt: skip


def test_every_constraint_is_classified() -> None:
    assert set(WRITES) == set(needs.CONSTRAINTS)


@pytest.mark.parametrize("constraint", WRITES)
def test_what_each_constraint_needs(constraint: str) -> None:
    item = f"GGIO1${constraint}$Pos$Oper"
    assert needed(write(variables(item))) == WRITES[constraint]
    assert needed(read(variables(item))) == "READVALUES"


SPECIAL = {
    "GGIO1$CO$Pos$SBO": ("READVALUES, CONTROL", "CONTROL"),  # reading it selects
    "GGIO1$CO$Pos$Oper$SBO": ("READVALUES, CONTROL", "CONTROL"),
    "GGIO1$CO$Pos": ("READVALUES, CONTROL", "CONTROL"),
    "GGIO1$CO$Oper": ("READVALUES, CONTROL", "CONTROL"),  # a data object of that name
    "GGIO1$CO": ("READVALUES, CONTROL", "CONTROL"),
    "GGIO1$CO$Pos$SBOw$ctlVal": ("READVALUES", "CONTROL"),
    "GGIO1$CO$Grp$Pos$Cancel": ("READVALUES", "CONTROL"),
    "LLN0$SP$SGCB$ActSG": ("READVALUES", "SETTINGGROUP"),
    "LLN0$SP": ("READVALUES", "CONFIG, SETTINGGROUP"),
    "LLN0": ("READVALUES, CONTROL", "REPORTING, CONTROL, CONFIG, SETTINGGROUP"),
}


@pytest.mark.parametrize("item", SPECIAL)
def test_names_that_mean_more(item: str) -> None:
    assert (needed(read(variables(item))), needed(write(variables(item)))) == SPECIAL[item]


UNTELLABLE = [
    "GGIO1$co$Pos$Oper", "GGIO1$Co$Pos$Oper", "ggio1$st$ind1", "GGIO1$XX$Pos", "GGIO1$LS$Pos", "GGIO1$$CO$Pos",
    "GGIO1$", "$CO", "$", "GGIO1$ST\x00$CO$Pos$Oper", "GGIO1$ST\x00", "GGIO1$ST$Ind1\x00$CO", "GGIO1$ST $x",
    "GGIO1$CO.Pos", "GGIO1.CO.Pos", "A1LD0/GGIO1$ST$Ind1", "GGIO1$ST$Ind1$", "GGIO1$ST$Ind1(3)", "../GGIO1$ST$x",
    "GGIO1$ST$a\n",
]  # fmt: skip


@pytest.mark.parametrize("item", UNTELLABLE)
def test_names_that_say_nothing_are_denied(item: str) -> None:
    for body in (read(variables(item)), write(variables(item))):
        assert needed(body) == "nothing does"
        assert holder(*words(rights.ALL), unknown="all-rights").refusal(request(body)) is None
        assert holder(*words(rights.ALL & ~Right.FILEMGMT), unknown="all-rights").refusal(request(body)) is not None


@pytest.mark.parametrize("domain", [None, "@", "A1\x00LD0", "A1/LD0", "A1$LD0", "A" * 65])
def test_domains_that_say_nothing_are_denied(domain: str | None) -> None:
    for make in (read, write):
        assert needed(make(tlv(0xA0, variable("GGIO1$ST$Ind1", domain)))) == "nothing does"


@pytest.mark.parametrize(
    "body",
    [
        read(variables("GGIO1$ST$a", None)),
        write(variables(None)),
        usual(4)[:0] + tlv(0x30, b"") + usual(4),
        usual(40) + tlv(0xBF4F, b"\x05\x00"),
        service(6, tlv(0xA1, tlv(0x80, b"\x01"))),
        service(79),
        service(87),
        read(variables(*["G$ST$a"] * (limits.OUR_MMS_VARIABLES_MAX + 1))),
        service(12, name("LLN0$d s")),
        service(11, name("d s") + variables("GGIO1$ST$a")),
    ],
    ids=["address", "address-write", "modifier", "extension", "attributes", "79", "87", "many", "list", "define"],
)
def test_what_cannot_be_told_is_denied(body: bytes) -> None:
    assert needed(body) == "nothing does"
    assert holder(*words(rights.ALL), unknown="all-rights").refusal(request(body)) is None
    assert not passes(holder("READVALUES", unknown="all-rights"), body)


# --- several objects, lists -------------------------------------------------------------------------------------------
def test_a_request_is_decided_by_all_its_variables() -> None:
    mixed = variables("GGIO1$CF$a", "GGIO1$CO$Pos$Oper", "LLN0$RP$r$RptEna", "LLN0$SP$SGCB$ActSG")
    assert needed(write(mixed, 4)) == "REPORTING, CONTROL, CONFIG, SETTINGGROUP"
    assert needed(read(variables("GGIO1$ST$a", "GGIO1$CO$Pos$SBO"))) == "READVALUES, CONTROL"


@pytest.mark.parametrize(("item", "domain"), [("LLN0$ds", LD), ("ds", "@"), ("ds", None)])
def test_lists(item: str, domain: str | None) -> None:
    assert needed(read(list_of(item, domain))) == "READVALUES"
    assert needed(write(list_of(item, domain))) == "REPORTING, CONTROL, CONFIG, SETTINGGROUP"
    assert needed(service(12, name(item, domain))) == "LISTOBJECTS"
    assert needed(service(13, tlv(0xA1, name(item, domain)))) == "DATASET"


def test_a_list_is_judged_by_its_members_when_it_is_defined() -> None:
    """Or its values could be read, and a control selected, by way of it."""
    assert needed(service(11, name("ds", "@") + variables("GGIO1$ST$a"))) == "READVALUES, DATASET"
    assert needed(service(11, name("ds", "@") + variables("GGIO1$CO$Pos$SBO"))) == "READVALUES, DATASET, CONTROL"
    assert needed(service(11, name("ds", "@") + variables("GGIO1$XX$a"))) == "nothing does"


@pytest.mark.parametrize("scope", [b"\x80\x01\x01", b"\x80\x01\x02\x82\x01A", b"\x80\x01\x03", b""])
def test_deleting_all_lists_needs_more(scope: bytes) -> None:
    assert needed(service(13, scope)) == "DATASET, CONFIG"


# --- roles ------------------------------------------------------------------------------------------------------------
def test_the_default_map() -> None:
    held = {row.name: Held(AccessPolicy().grants_of((role(row.role),))).everywhere for row in rights.DEFAULT}
    look = Right.LISTOBJECTS | Right.READVALUES
    assert held == {
        "VIEWER": look,
        "OPERATOR": look | Right.REPORTING | Right.CONTROL,
        "ENGINEER": rights.ALL & ~(Right.CONTROL | Right.SECURITY),
        "INSTALLER": look | Right.FILEWRITE | Right.CONFIG,
        "SECADM": Right.LISTOBJECTS | Right.SECURITY,
        "SECAUD": Right.LISTOBJECTS,
        "RBACMNT": Right.LISTOBJECTS | Right.SECURITY,
    }


OPERATE = write(variables("GGIO1$CO$SPCSO1$Oper"))
CONFIGURE = write(variables("GGIO1$CF$Mod$ctlModel"))
LOOK = read(variables("GGIO1$ST$Ind1"))
GROUP = write(variables("LLN0$SP$SGCB$ActSG"))
REPORT = write(variables("LLN0$BR$b01$RptEna"))
OPEN = usual(NUMBERS["fileOpen"])


@pytest.mark.parametrize(
    ("judge", "allowed"),
    [
        (VIEWER, {LOOK}),
        (OPERATOR, {LOOK, OPERATE, REPORT}),
        (ENGINEER, {LOOK, CONFIGURE, GROUP, REPORT, OPEN}),
        (INSTALLER, {LOOK, CONFIGURE}),
        (SECADM, set()),
        (SECAUD, set()),
        (RBACMNT, set()),
        (NOBODY, set()),
    ],
    ids=["VIEWER", "OPERATOR", "ENGINEER", "INSTALLER", "SECADM", "SECAUD", "RBACMNT", "nobody"],
)
def test_what_the_roles_may_do(judge: Judge, allowed: set[bytes]) -> None:
    bodies = {LOOK, OPERATE, CONFIGURE, GROUP, REPORT, OPEN}
    assert {body for body in bodies if passes(judge, body)} == allowed
    assert passes(judge, usual(NUMBERS["status"]))
    assert passes(judge, get_name_list()) == (judge is not NOBODY)


def test_any_role_is_enough_and_rights_add_up() -> None:
    both = Judge(AccessPolicy(), (role(1), role(2)))
    assert passes(both, write(variables("GGIO1$CO$a$Oper", "GGIO1$CF$a"), 2))
    for one in (OPERATOR, ENGINEER):
        assert not passes(one, write(variables("GGIO1$CO$a$Oper", "GGIO1$CF$a"), 2))


def test_roles_of_another_definition_or_revision_give_nothing() -> None:
    policy = AccessPolicy(revision=3)
    assert passes(Judge(policy, (role(0, revision=3),)), LOOK)
    assert not passes(Judge(policy, (role(0, revision=2),)), LOOK)
    assert not passes(Judge(policy, (role(0, definition="ours", revision=3),)), LOOK)
    assert not passes(Judge(AccessPolicy(definition="ours"), (role(0),)), LOOK)
    assert passes(Judge(AccessPolicy(definition="ours"), (role(0, definition="ours", revision=9),)), LOOK)


def test_private_roles_and_roles_nobody_knows() -> None:
    policy = AccessPolicy(roles=((-1, (Grant(Right.CONTROL), Grant(Right.LISTOBJECTS))),))
    assert passes(Judge(policy, (role(-1),)), OPERATE)
    for number in (0, 1, -2, 7, 32767, -32768):
        assert not passes(Judge(policy, (role(number),)), OPERATE)
        assert not passes(Judge(AccessPolicy(), (role(-1),)), LOOK)


def test_what_everyone_has() -> None:
    policy = AccessPolicy(default=(Grant(Right.READVALUES),))
    assert passes(Judge(policy, ()), LOOK)
    assert not passes(Judge(policy, ()), OPERATE)
    assert passes(Judge(policy, (role(-9),)), LOOK)


# --- objects ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("A1LD0/GGIO1", ["GGIO1", "GGIO1$CO$a", "GGIO1$ST"], ["GGIO11$CO$a", "XGGIO1", "GGIO"]),
        ("A1LD0/GGIO1$CO", ["GGIO1$CO", "GGIO1$CO$a$Oper"], ["GGIO1", "GGIO1$ST$a", "GGIO1$CF$CO"]),
        ("A1LD0/GGIO1$CO$Pos", ["GGIO1$CO$Pos", "GGIO1$CO$Pos$Oper"], ["GGIO1$CO", "GGIO1$CO$Pos1", "GGIO1$CO$xPos"]),
        ("A1*/GGIO?$*", ["GGIO1$ST$a", "GGIO2$CO"], ["GGIO$ST$a", "GGIO12$ST$a", "GGIO1"]),
        ("*/*", ["GGIO1$ST$a", "X"], []),
        ("*LD*0/*G*I*1$CO", ["GGIO1$CO$a", "xGxIx1$CO"], ["GGI1O$CO", "GGIO1$ST$a"]),
        ("B*/*", [], ["GGIO1$ST$a"]),
        ("A1LD0/GG**1", ["GGIO1", "GG1"], ["GG2"]),
    ],
)
def test_object_patterns(pattern: str, good: list[str], bad: list[str]) -> None:
    made = ObjectPattern(pattern)
    assert [item for item in good + bad if made.holds(Name(LD, item))] == good


@pytest.mark.parametrize(
    "text", ["", "GGIO1", "A1LD0/", "/GGIO1", "A/B/C", "A/B$C$D$E", "A/B$", "A/B.C", "A/[ab]", "A/" + "B" * 65, "A/B\n"]
)
def test_what_is_no_object_pattern(text: str) -> None:
    with pytest.raises(ConfigError):
        ObjectPattern(text)


def test_a_right_on_some_objects() -> None:
    judge = holder("LISTOBJECTS", "READVALUES", "CONTROL:A1*/GGIO1$CO", "CONTROL:*/XCBR?")
    assert passes(judge, OPERATE)
    assert passes(judge, write(variables("XCBR1$CO$Pos$Oper")))
    assert not passes(judge, write(variables("CSWI1$CO$Pos$Oper")))
    assert not passes(judge, write(tlv(0xA0, variable("GGIO1$CO$a$Oper", "B1LD0"))))
    assert not passes(judge, write(variables("GGIO1$CO$a$Oper", "CSWI1$CO$Pos$Oper"), 2))
    assert not passes(judge, write(variables("GGIO1$SV$a")))
    assert passes(judge, read(variables("GGIO1$CO$a$SBO")))
    assert not passes(judge, read(variables("CSWI1$CO$a$SBO")))
    assert not passes(judge, usual(NUMBERS["takeControl"]))  # for no object in particular


def test_a_right_to_look_at_some_devices() -> None:
    judge = holder("LISTOBJECTS:A1*/*", "READVALUES:*/LLN0")
    assert passes(judge, get_name_list("A1LD0"))
    assert not passes(judge, get_name_list("B1LD0"))
    assert not passes(judge, get_name_list(None))
    assert passes(judge, read(list_of("LLN0$ds")))
    assert not passes(judge, read(list_of("ds", "@")))
    assert not passes(holder("LISTOBJECTS:A1*/LLN0"), get_name_list("A1LD0"))


def test_a_right_everywhere_is_not_narrowed_by_one_on_some_objects() -> None:
    assert passes(holder("CONTROL:B*/*", "CONTROL"), OPERATE)


def test_patterns_take_linear_time() -> None:
    made = ObjectPattern("*/" + "*a" * 31 + "b")
    assert not made.holds(Name("A", "a" * limits.OUR_MMS_IDENTIFIER_MAX))  # with backtracking: not in a lifetime


# --- configuration ----------------------------------------------------------------------------------------------------
def test_rights_by_their_names_of_both_editions() -> None:
    assert Grant.parse("View") == Grant(Right.LISTOBJECTS)
    assert [Grant.parse(word).right for word in rights.NAMES_2011] == list(Right)
    assert str(Grant.parse("Control:A/B$CO")) == "CONTROL:A/B$CO"
    for wrong in ("", "CONTROL:", "control", "WRITE", "CONTROL, CONFIG"):
        with pytest.raises(ConfigError):
            Grant.parse(wrong)


def test_bounds_of_a_policy() -> None:
    for number in (-32769, 32768):
        with pytest.raises(ConfigError):
            AccessPolicy(roles=((number, ()),))
    with pytest.raises(ConfigError):
        AccessPolicy(roles=((1, (Grant(Right.CONTROL),) * (limits.OUR_ACCESS_GRANTS + 1)),))
    with pytest.raises(ConfigError):
        AccessPolicy(roles=tuple((number, ()) for number in range(limits.OUR_ACCESS_ROLES + 1)))


def test_the_matrix_for_people() -> None:
    lines = AccessPolicy(name="plant", revision=2).matrix()
    assert lines[0] == 'access "plant": roles of IEC62351-8, revision 2; unknown requests: deny'
    assert "  OPERATOR (1): LISTOBJECTS, READVALUES, REPORTING, CONTROL" in lines
    assert lines[-1] == "  without a role: nothing"
    assert len(lines) == 9
    private = AccessPolicy(roles=((-1, ()), (2, ()))).matrix()
    assert private[1:3] == ["  ENGINEER (2): nothing", "  -1: nothing"]


# --- answers ----------------------------------------------------------------------------------------------------------
def test_reads_and_writes_are_answered_item_by_item() -> None:
    assert answer_of(VIEWER, OPERATE).hex() == "a1080201 07a503800103".replace(" ", "")
    three = write(variables("GGIO1$ST$a", "GGIO1$CO$a$Oper", "GGIO1$ST$b"), 3)
    assert answer_of(VIEWER, three).hex() == "a10e020107a509" + "800103" * 3
    assert answer_of(SECADM, read(variables("GGIO1$ST$a", "GGIO1$ST$b"))).hex() == "a10d020107a408a106" + "800103" * 2


def test_other_services_are_answered_with_a_confirmed_error() -> None:
    assert answer_of(VIEWER, OPEN).hex() == "a20a800107a205a003870103"
    assert answer_of(VIEWER, write(list_of("LLN0$ds"))).hex() == "a20a800107a205a003870103"
    assert answer_of(SECADM, read(list_of("LLN0$ds"))).hex() == "a20a800107a205a003870103"
    assert answer_of(VIEWER, service(100), 0xFFFFFFFF).hex() == "a20e800500ffffffffa205a003870103"


def test_who_may_not_list_objects_finds_none() -> None:
    assert answer_of(NOBODY, get_name_list()).hex() == "a20a800107a205a003870102"
    assert answer_of(NOBODY, LOOK).hex() == "a10a020107a405a10380010a"
    assert answer_of(NOBODY, OPERATE).hex() == "a108020107a50380010a"


def test_many_variables_get_as_many_answers() -> None:
    for count in (limits.OUR_MMS_VARIABLES_MAX - 1, 6000):
        body = read(variables(*["G$ST$a"] * count))
        found = answer_of(NOBODY, body)
        assert len(found) < len(body)  # so it fits wherever the request did
        assert found.count(b"\x80\x01\x0a") == count
        assert mms.is_one_pdu(found)


def test_malformed_requests_are_rejected() -> None:
    for pdu, wanted in (
        (request(usual(4) + b"\x00"), mms.reject(mms.RejectReason.INVALID_PDU, 7)),
        (request(b""), mms.reject(mms.RejectReason.INVALID_PDU, 7)),
        (b"\xa0\x00", mms.reject(mms.RejectReason.INVALID_PDU)),
        (b"\x30\x00", mms.reject(mms.RejectReason.UNKNOWN_PDU_TYPE)),
        (b"", mms.reject(mms.RejectReason.UNKNOWN_PDU_TYPE)),
        (b"\xc0\x00", mms.reject(mms.RejectReason.UNKNOWN_PDU_TYPE)),
        (b"\xa8\x00", mms.reject(mms.RejectReason.INVALID_PDU)),
        (b"\x8b\x05", mms.reject(mms.RejectReason.INVALID_PDU)),
    ):
        refusal = holder(*words(rights.ALL), unknown="all-rights").refusal(pdu)
        assert refusal is not None
        assert refusal[0].malformed
        assert refusal[1] == wanted


def test_what_ends_or_answers_passes_and_other_kinds_do_not() -> None:
    for kind in Kind:
        refusal = NOBODY.refusal(tlv(kind, b""))
        passed = kind in PASSED
        assert (refusal is None) == passed, kind
    unconfirmed = holder(*words(rights.ALL), unknown="all-rights").refusal(tlv(0xA3, tlv(0xA0, b"")))
    assert unconfirmed is not None
    assert unconfirmed[1] is None  # nothing answers an unconfirmed service
    damaged = NOBODY.refusal(b"\xa4\x05")
    assert damaged is not None
    assert damaged[1] is None  # nor is an answer answered


def test_a_denial_says_what_for_the_log() -> None:
    refusal = VIEWER.refusal(request(write(variables("GGIO1$ST$a", "GGIO1$CO$a$Oper"), 2)))
    assert refusal is not None
    assert (refusal[0].service, refusal[0].object, refusal[0].missing) == (
        "write", f"{LD}/GGIO1$ST$a", Right.CONTROL | Right.CONFIG
    )  # fmt: skip
    opened = VIEWER.refusal(request(OPEN))
    assert opened is not None
    assert opened[0].object == "/COMTRADE/1.cfg"


# --- remembered verdicts ----------------------------------------------------------------------------------------------
def test_a_verdict_is_remembered_for_the_same_request_only() -> None:
    judge = of_role(0)
    for _ in range(3):
        assert passes(judge, LOOK)
        assert not passes(judge, service(100))
        assert answer_of(judge, service(100), 9) == answer_of(VIEWER, service(100), 9)
        assert passes(judge, read(variables("GGIO1$ST$Ind2")))
        assert not passes(judge, read(variables("GGIO1$CO$Ind1")))


def test_verdicts_are_bounded() -> None:
    judge = of_role(0)
    for number in range(3 * limits.OUR_ACCESS_VERDICTS):
        assert passes(judge, read(variables(f"GGIO1$ST$Ind{number}")))
        assert len(judge._known) <= limits.OUR_ACCESS_VERDICTS
    before = len(judge._known)
    judge.refusal(request(read(variables(*["GGIO1$ST$Ind1"] * 100))))  # long
    judge.refusal(request(OPERATE))  # other values each time
    assert len(judge._known) == before


def test_a_judge_for_each_set_of_roles() -> None:
    judges = Judges(AccessPolicy())
    assert judges.of((role(0),)) is judges.of((role(0),))
    assert passes(judges.of((role(1),)), OPERATE)
    assert not passes(judges.of((role(0),)), OPERATE)
    for number in range(2 * limits.OUR_ACCESS_SETS):
        judges.of((role(-number),))
        assert len(judges._judges) <= limits.OUR_ACCESS_SETS


# --- anything ---------------------------------------------------------------------------------------------------------
@given(st.binary(max_size=100))
def test_any_octets_have_a_verdict(pdu: bytes) -> None:
    for judge in (NOBODY, VIEWER):
        refusal = judge.refusal(pdu)
        assert refusal is None or refusal[1] is None or mms.is_one_pdu(refusal[1])


@given(st.text(max_size=40))
def test_no_name_gets_round_control(item: str) -> None:
    """Whatever a name is spelt like: who lacks CONTROL writes nothing that has CO in it."""
    judge = holder(*words(rights.ALL & ~Right.CONTROL), unknown="all-rights")
    octets = item.encode("ascii", "replace")[:100]
    if b"CO" in octets.upper().split(b"$")[1:2] or b"\x00" in octets:
        assert judge.refusal(request(write(variables(octets or b"x")))) is not None
