"""Rights and roles of IEC 62351-8 as data.

The rights and the role numbers are the standard's. Which role has which right is not in any public text: ``DEFAULT``
is ours [C], made after the public gist of the 2011 edition, and rather too narrow than too wide. Whoever holds the
standard corrects it here, or in the gateway's configuration.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final, NamedTuple

DEFINITION: Final = "IEC62351-8"
ROLE_MIN: Final = -32768
ROLE_MAX: Final = 32767


class Right(IntFlag):
    """What somebody may do. The names are those of the 2020 edition."""

    LISTOBJECTS = 1
    READVALUES = 2
    DATASET = 4
    REPORTING = 8
    FILEREAD = 16
    FILEWRITE = 32
    FILEMGMT = 64
    CONTROL = 128
    CONFIG = 256
    SETTINGGROUP = 512
    SECURITY = 1024


ALL: Final = Right(0x7FF)
# The names of the 2011 edition for the same rights.
NAMES_2011: Final = {
    "View": Right.LISTOBJECTS,
    "Read": Right.READVALUES,
    "DataSet": Right.DATASET,
    "Reporting": Right.REPORTING,
    "FileRead": Right.FILEREAD,
    "FileWrite": Right.FILEWRITE,
    "FileMgt": Right.FILEMGMT,
    "Control": Right.CONTROL,
    "Config": Right.CONFIG,
    "SettingGroup": Right.SETTINGGROUP,
    "Security": Right.SECURITY,
}
BY_NAME: Final[dict[str, Right]] = {**{right.name: right for right in Right if right.name}, **NAMES_2011}


def names(rights: int) -> str:
    """The rights in words, in the order of the standard: ``READVALUES, CONTROL``."""
    return ", ".join(right.name for right in Right if rights & right and right.name)


class Row(NamedTuple):
    """A row of the default map: the role's number and name, and its rights as a configuration would write them."""

    role: int
    name: str
    grants: tuple[str, ...]


_LOOK: Final = ("LISTOBJECTS", "READVALUES")
DEFAULT: Final = (
    Row(0, "VIEWER", _LOOK),
    Row(1, "OPERATOR", (*_LOOK, "REPORTING", "CONTROL")),
    Row(
        2,
        "ENGINEER",
        (*_LOOK, "DATASET", "REPORTING", "FILEREAD", "FILEWRITE", "FILEMGMT", "CONFIG", "SETTINGGROUP"),
    ),
    Row(3, "INSTALLER", (*_LOOK, "FILEWRITE", "CONFIG")),
    Row(4, "SECADM", ("LISTOBJECTS", "SECURITY")),
    Row(5, "SECAUD", ("LISTOBJECTS", "SECURITY:*/*$SECAUD")),  # the log of that name, nothing else
    Row(6, "RBACMNT", ("LISTOBJECTS", "SECURITY")),
)
ROLE_NAMES: Final[dict[str, int]] = {row.name: row.role for row in DEFAULT}
_BY_NUMBER: Final = {row.role: row.name for row in DEFAULT}


def role_name(role: int) -> str:
    """The standard's name of a role, or its number."""
    return _BY_NUMBER.get(role, str(role))
