"""The roles of IEC 62351-8 that a certificate grants its subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["certificate", "attribute-certificate"]


@dataclass(frozen=True, slots=True)
class RoleGrant:
    """One role, as a verified token grants it.

    Attributes:
        role: role id: 0 VIEWER .. 6 RBACMNT, to 32767 reserved, negative private (IEC 62351-8, Table 3).
        aor: area of responsibility, 1..64 characters; empty: anywhere.
        revision: of the role-to-right map the issuer had in mind, 0..255.
        definition: whose roles these are, at most 23 characters, e.g. ``IEC62351-8``.
        source: the token.
    """

    role: int
    aor: str
    revision: int
    definition: str
    source: Source
