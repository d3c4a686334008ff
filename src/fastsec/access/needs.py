"""What a request needs: the right for each MMS service, and for reading and writing by functional constraint.

The tables are ours [C]: IEC 62351-8 speaks of rights on objects of IEC 61850-7-2, IEC 61850-8-1 says which MMS service
stands for which service there, and the rest of ISO 9506-2 gets the strictest right that fits. The functions give the
rights as an int, which is four times as fast; None: it cannot be told what the request does.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from fastsec import limits
from fastsec.access.rights import Right
from fastsec.mms.services import Name

LIST, READ, DATASET, REPORT = Right.LISTOBJECTS, Right.READVALUES, Right.DATASET, Right.REPORTING
CONTROL, CONFIG, GROUP, SECURITY = Right.CONTROL, Right.CONFIG, Right.SETTINGGROUP, Right.SECURITY
NONE: Final = Right(0)
_STRICT: Final = CONTROL | CONFIG  # what only somebody who runs and configures the device may do
_WRITE_ALL: Final = CONTROL | CONFIG | GROUP | REPORT  # a write that may reach any functional constraint

# Service: what it needs. Of read, write and defineNamedVariableList the variables add their own needs.
SERVICES: Final[dict[str, Right]] = {
    "status": NONE,  # whether the device lives: clients use it as a sign of life
    "identify": LIST,
    "getNameList": LIST,
    "getCapabilityList": LIST,
    "rename": CONFIG,
    "read": NONE,
    "write": NONE,
    "getVariableAccessAttributes": LIST,
    "defineNamedVariable": _STRICT,  # a second name for something could get round what its first one needs
    "defineScatteredAccess": _STRICT,
    "getScatteredAccessAttributes": LIST,
    "deleteVariableAccess": _STRICT,
    "defineNamedVariableList": DATASET,
    "getNamedVariableListAttributes": LIST,
    "deleteNamedVariableList": DATASET,
    "defineNamedType": CONFIG,
    "getNamedTypeAttributes": LIST,
    "deleteNamedType": CONFIG,
    "input": CONTROL,
    "output": CONTROL,
    "takeControl": CONTROL,
    "relinquishControl": CONTROL,
    "defineSemaphore": _STRICT,
    "deleteSemaphore": _STRICT,
    "reportSemaphoreStatus": READ,
    "reportPoolSemaphoreStatus": READ,
    "reportSemaphoreEntryStatus": READ,
    "initiateDownloadSequence": CONFIG | Right.FILEWRITE,
    "downloadSegment": CONFIG | Right.FILEWRITE,
    "terminateDownloadSequence": CONFIG | Right.FILEWRITE,
    "initiateUploadSequence": CONFIG | Right.FILEREAD,
    "uploadSegment": CONFIG | Right.FILEREAD,
    "terminateUploadSequence": CONFIG | Right.FILEREAD,
    "requestDomainDownload": CONFIG | Right.FILEWRITE,
    "requestDomainUpload": CONFIG | Right.FILEREAD,
    "loadDomainContent": CONFIG | Right.FILEWRITE,
    "storeDomainContent": CONFIG | Right.FILEWRITE,
    "deleteDomain": CONFIG | Right.FILEMGMT,
    "getDomainAttributes": LIST,
    "createProgramInvocation": _STRICT,
    "deleteProgramInvocation": _STRICT,
    "start": _STRICT,
    "stop": _STRICT,
    "resume": _STRICT,
    "reset": _STRICT,
    "kill": _STRICT,
    "getProgramInvocationAttributes": LIST,
    "obtainFile": Right.FILEWRITE,  # SetFile: the server fetches a file from the client
    "defineEventCondition": CONFIG,
    "deleteEventCondition": CONFIG,
    "getEventConditionAttributes": LIST,
    "reportEventConditionStatus": READ,
    "alterEventConditionMonitoring": CONFIG,
    "triggerEvent": _STRICT,
    "defineEventAction": _STRICT,  # an action is a service that runs later
    "deleteEventAction": _STRICT,
    "getEventActionAttributes": LIST,
    "reportEventActionStatus": READ,
    "defineEventEnrollment": _STRICT,
    "deleteEventEnrollment": _STRICT,
    "alterEventEnrollment": _STRICT,
    "reportEventEnrollmentStatus": READ,
    "getEventEnrollmentAttributes": LIST,
    "acknowledgeEventNotification": CONTROL,
    "getAlarmSummary": READ,
    "getAlarmEnrollmentSummary": READ,
    "readJournal": READ,  # of the log SECAUD: SECURITY
    "writeJournal": SECURITY | CONFIG,
    "initializeJournal": SECURITY | CONFIG,  # it deletes entries
    "reportJournalStatus": READ,
    "createJournal": SECURITY | CONFIG,
    "deleteJournal": SECURITY | CONFIG,
    "fileOpen": Right.FILEREAD,
    "fileRead": Right.FILEREAD,
    "fileClose": NONE,  # gives nothing, and tidies up after a right that is gone
    "fileRename": Right.FILEMGMT,
    "fileDelete": Right.FILEMGMT,
    "fileDirectory": Right.FILEREAD,
    "getDataExchangeAttributes": LIST,
    "exchangeData": _STRICT,
    "defineAccessControlList": SECURITY,
    "getAccessControlListAttributes": SECURITY,
    "reportAccessControlledObjects": SECURITY,
    "deleteAccessControlList": SECURITY,
    "changeAccessControl": SECURITY,
}  # fmt: skip
UNKNOWN_SERVICES: Final = frozenset(("additionalService",))  # a service of another standard inside

# Functional constraint (IEC 61850-7-2, 61850-8-1): what reading and what writing needs.
CONSTRAINTS: Final[dict[str, tuple[Right, Right]]] = {
    "ST": (READ, _STRICT),  # status: nobody writes it, except devices that are told so
    "MX": (READ, _STRICT),
    "CO": (READ, CONTROL),  # reading SBO selects: CONTROL too
    "SP": (READ, CONFIG),  # SGCB: SETTINGGROUP
    "SG": (READ, GROUP),
    "SE": (READ, GROUP),
    "SV": (READ, CONTROL),  # substitution puts values in place of the process's
    "BL": (READ, CONTROL),  # blocking stops them
    "CF": (READ, CONFIG),
    "DC": (READ, CONFIG),
    "EX": (READ, CONFIG),
    "OR": (READ, _STRICT),
    "SR": (READ, _STRICT),
    "RP": (READ, REPORT),
    "BR": (READ, REPORT),
    "LG": (READ, CONFIG),
    "GO": (READ, CONFIG),
    "GS": (READ, CONFIG),
    "MS": (READ, CONFIG),
    "US": (READ, CONFIG),
}
AUDIT_LOG: Final = "SECAUD"
_WELL_FORMED: Final = re.compile(r"[A-Za-z0-9_]+(?:\$[A-Za-z0-9_]+)*")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_]{1,64}")
_MIRRORED: Final = frozenset(("Oper", "SBOw", "Cancel"))  # below CO: reading them shows the last value, nothing more


def is_usual(name: Name) -> bool:
    """The name is spelt as IEC 61850-8-1 spells one: what else might stand for what is the server's secret."""
    return (
        len(name.item) <= limits.OUR_MMS_IDENTIFIER_MAX
        and (not name.item or _WELL_FORMED.fullmatch(name.item) is not None)
        and (name.domain in ("", "@") or _DOMAIN.fullmatch(name.domain) is not None)
        and bool(name.domain or name.item)
    )


@lru_cache(maxsize=4096)
def of_variable(name: Name, write: bool) -> int | None:
    """What reading or writing this variable needs, None where the name says nothing about it.

    A name that stops early means all that is below it, so it needs what any of that needs.
    """
    if name.domain in ("", "@") or not name.item or not is_usual(name):
        return None
    _node, *below = name.item.split("$")
    if not below:  # the whole logical node
        return int(_WRITE_ALL if write else READ | CONTROL)
    found = CONSTRAINTS.get(below[0])
    if found is None:
        return None
    if below[0] == "CO" and not write:
        path = below[2:]
        mirrored = "SBO" not in path and not _MIRRORED.isdisjoint(path)
        return int(READ if mirrored else READ | CONTROL)
    if below[0] == "SP" and write:
        if len(below) == 1:
            return int(CONFIG | GROUP)
        return int(GROUP if below[1] == "SGCB" else CONFIG)
    return int(found[write])


def of_list(write: bool) -> int:
    """What reading or writing a named variable list needs. Its members are the server's knowledge: they were judged
    when the list was defined here, and nothing is known about them otherwise."""
    return int(_WRITE_ALL if write else READ)


def of_journal(service: str, name: Name) -> int:
    """What a service on a log needs: the security log is for those who may see it."""
    if service in ("readJournal", "reportJournalStatus") and name.item.rpartition("$")[2].upper() == AUDIT_LOG:
        return int(SECURITY)
    return int(SERVICES[service])
