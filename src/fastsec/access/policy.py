"""An access policy: which role has which right, on which objects. And what the roles of one peer add up to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from fastsec import limits
from fastsec.access import rights
from fastsec.access.rights import Right
from fastsec.errors import ConfigError

if TYPE_CHECKING:
    from fastsec.mms.services import Name
    from fastsec.pki.roles import RoleGrant

Unknown = Literal["deny", "all-rights"]

_PATTERN: Final = re.compile(r"[A-Za-z0-9_*?]{1,64}/[A-Za-z0-9_*?]{1,64}(\$[A-Za-z0-9_*?]{1,64}){0,2}")


class ObjectPattern:
    """``LD/LN``, ``LD/LN$FC`` or ``LD/LN$FC$DO`` with ``*`` (any characters) and ``?`` (one) inside each part.

    A pattern holds for what it names and for all below: ``*/XCBR1$CO`` for ``A1LD0/XCBR1$CO$Pos$Oper``, but not for
    ``A1LD0/XCBR1``, which is more than that.

    Errors:
        ConfigError: not of that form.
    """

    __slots__ = ("_depth", "_regex", "text")

    def __init__(self, text: str) -> None:
        if not _PATTERN.fullmatch(text):
            raise ConfigError(f'"{text}" is no object pattern; write for example "A1LD*/XCBR1$CO"')
        self.text = text
        domain, _, item = text.partition("/")
        parts = item.split("$")
        self._depth = len(parts)
        self._regex = re.compile("/".join(map(_regex, (domain, *parts))))

    def holds(self, name: Name) -> bool:
        """Whether it holds for the object. A whole domain is an object of patterns for all of it."""
        if name.domain in ("", "@"):
            return False
        # Nothing else has a slash, so fewer parts than the pattern's never match, and "LD/" only a pattern "LD/*".
        parts = name.item.split("$")[: self._depth]
        return self._regex.fullmatch("/".join((name.domain, *parts))) is not None

    def __repr__(self) -> str:
        return f"ObjectPattern({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def _regex(part: str) -> str:
    """A glob as a regular expression that never goes back over what it has matched: the names are a peer's."""
    first, *rest = ("[^/]".join(map(re.escape, piece.split("?"))) for piece in re.sub(r"\*+", "*", part).split("*"))
    if not rest:
        return first
    middle = "".join(f"(?>[^/]*?{piece})" for piece in rest[:-1] if piece)
    return f"{first}{middle}[^/]*{rest[-1]}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A right, everywhere or on the objects of a pattern."""

    right: Right
    objects: ObjectPattern | None = None

    @classmethod
    def parse(cls, text: str) -> Grant:
        """``CONTROL``, or ``CONTROL:A1LD0/XCBR1$CO``; the names of 2011 (``View``) too. ConfigError for others."""
        name, colon, pattern = text.partition(":")
        right = rights.BY_NAME.get(name)
        if right is None:
            raise ConfigError(f'"{name}" is no right; the rights are {rights.names(rights.ALL)}')
        return cls(right, ObjectPattern(pattern) if colon else None)

    def __str__(self) -> str:
        return f"{self.right.name}:{self.objects.text}" if self.objects is not None else str(self.right.name)


def _default_map() -> tuple[tuple[int, tuple[Grant, ...]], ...]:
    return tuple((row.role, tuple(map(Grant.parse, row.grants))) for row in rights.DEFAULT)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """Which rights the roles of a role definition have.

    Attributes:
        name: in the log.
        definition: whose roles these are; a role of another definition gives nothing.
        revision: of this map; a role that was granted with another one in mind gives nothing. None: any.
        roles: role number -> its grants.
        default: what a confirmed peer has without any role, and in addition to those it has.
        unknown: what it takes to do something whose effect cannot be told: nothing does (``deny``), or all rights.
    """

    name: str = "default"
    definition: str = rights.DEFINITION
    revision: int | None = None
    roles: tuple[tuple[int, tuple[Grant, ...]], ...] = field(default_factory=_default_map)
    default: tuple[Grant, ...] = ()
    unknown: Unknown = "deny"

    def __post_init__(self) -> None:
        if len(self.roles) > limits.OUR_ACCESS_ROLES:
            raise ConfigError(f"an access policy has at most {limits.OUR_ACCESS_ROLES} roles")
        for role, grants in self.roles:
            if not rights.ROLE_MIN <= role <= rights.ROLE_MAX:
                raise ConfigError(f"{role} is no role number; write {rights.ROLE_MIN} to {rights.ROLE_MAX}")
            if len(grants) > limits.OUR_ACCESS_GRANTS:
                raise ConfigError(f"a role has at most {limits.OUR_ACCESS_GRANTS} rights and patterns")

    def counts(self, grant: RoleGrant) -> bool:
        """Whether a verified role belongs to this map."""
        return grant.definition == self.definition and self.revision in (None, grant.revision)

    def grants_of(self, roles: Iterable[RoleGrant]) -> list[Grant]:
        """All that these roles give: any of them is enough for what it allows."""
        by_number = dict(self.roles)
        found = list(self.default)
        for role in roles:
            if self.counts(role):
                found += by_number.get(role.role, ())
        return found

    def matrix(self) -> list[str]:
        """The map in lines, for people."""
        known = f"of {self.definition}" + (f", revision {self.revision}" if self.revision is not None else "")
        lines = [f'access "{self.name}": roles {known}; unknown requests: {self.unknown}']
        for role, grants in sorted(self.roles, key=lambda row: (row[0] < 0, abs(row[0]))):
            label = rights.role_name(role)
            number = f" ({role})" if label != str(role) else ""
            lines.append(f"  {label}{number}: {', '.join(map(str, grants)) or 'nothing'}")
        lines.append(f"  without a role: {', '.join(map(str, self.default)) or 'nothing'}")
        return lines


class Held:
    """The rights that grants add up to.

    Attributes:
        everywhere: rights without a limit, as an int.
    """

    __slots__ = ("_somewhere", "everywhere")

    def __init__(self, grants: Sequence[Grant]) -> None:
        everywhere = Right(0)
        somewhere: dict[Right, dict[ObjectPattern, None]] = {}
        for grant in grants:
            if grant.objects is None:
                everywhere |= grant.right
            else:
                somewhere.setdefault(grant.right, {})[grant.objects] = None
        self.everywhere = int(everywhere)
        self._somewhere = [(int(right), tuple(found)) for right, found in somewhere.items() if not right & everywhere]

    @property
    def anything(self) -> bool:
        """Whether there is any right at all."""
        return bool(self.everywhere or self._somewhere)

    def missing(self, need: int, name: Name | None) -> int:
        """Which of the rights that are needed for this object are not there; ``None``: for no particular object."""
        left = need & ~self.everywhere
        if left and name is not None:
            for right, patterns in self._somewhere:
                if left & right and any(pattern.holds(name) for pattern in patterns):
                    left &= ~right
        return left
