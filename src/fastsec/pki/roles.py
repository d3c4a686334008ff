"""The roles of IEC 62351-8 that a certificate grants its subject: IECUserRoles, read, written and judged.

The structure stands in the table ``USER_ROLE_INFO``, pieced together from public parsers and one sample [C]: whoever
holds the standard corrects it there. Reading is strict: what is not understood to the last octet grants nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from fastsec import limits
from fastsec._core.cursor import Reader, Writer
from fastsec.errors import ConfigError, DecodeError
from fastsec.events import SecurityEvent, named
from fastsec.pki import oids

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
        sequence: statusChangeSequenceNumber of the token, None if it has none.
    """

    role: int
    aor: str
    revision: int
    definition: str
    source: Source
    sequence: int | None = None


# --- the structure --------------------------------------------------------------------------------------------------


class Component(NamedTuple):
    """A component of UserRoleInfo; ``low`` and ``high`` bound the characters, the value or the number of roles."""

    name: str
    kind: Literal["roles", "text", "number"]
    tag: int
    optional: bool
    low: int
    high: int


SEQUENCE: Final = 0x30
ROLE_ID: Final = Component("RoleID", "number", 0x02, False, -32768, 32767)
USER_ROLE_INFO: Final = (  # [C] IECUserRoles ::= SEQUENCE OF UserRoleInfo; UserRoleInfo ::= SEQUENCE { these }
    Component("userRole", "roles", SEQUENCE, False, 1, limits.OUR_ROLES_PER_INFO),
    Component("aor", "text", 0x0C, True, 1, 64),
    Component("revision", "number", 0x02, False, 0, 255),
    Component("roleDefinition", "text", 0x0C, False, 0, 23),
    Component("operation", "number", 0x0A, True, 0, 255),
    Component("statusChangeSequenceNumber", "number", 0x02, True, 0, 2**63 - 1),
)
OPERATION_ADD, OPERATION_DELETE, OPERATION_CHANGE = 1, 2, 3  # [C]
ROLE_NAMES: Final = ("VIEWER", "OPERATOR", "ENGINEER", "INSTALLER", "SECADM", "SECAUD", "RBACMNT")
EXTENSIONS: Final = (oids.IEC_USER_ROLES, oids.IEC_USER_ROLES_2011)


class UserRoleInfo(NamedTuple):
    """One UserRoleInfo; the attributes in the order of ``USER_ROLE_INFO``, None for what is absent."""

    roles: tuple[int, ...]
    aor: str | None = None
    revision: int = 0
    definition: str = "IEC62351-8"
    operation: int | None = None
    sequence: int | None = None


def read_user_roles(value: Reader) -> tuple[UserRoleInfo, ...]:
    """The next TLV of ``value``, IECUserRoles; DecodeError if anything of it is out of bounds or unknown."""
    value.expect(SEQUENCE)
    infos = value.enter(step="IECUserRoles")
    found: list[UserRoleInfo] = []
    while infos.more():
        if len(found) == limits.OUR_ROLE_INFOS:
            raise DecodeError(f"more than {limits.OUR_ROLE_INFOS} UserRoleInfo", step="IECUserRoles")
        infos.expect(SEQUENCE)
        info = infos.enter()
        found.append(UserRoleInfo._make(_read(info, component) for component in USER_ROLE_INFO))
        info.finish()
    if not found:
        raise DecodeError("no UserRoleInfo", step="IECUserRoles")
    return tuple(found)


def _read(reader: Reader, component: Component) -> object:
    name, kind, tag, optional, low, high = component
    if optional and (not reader.more() or reader.peek() != tag):
        return None
    if kind == "number":
        number = reader.integer(tag)
        content = reader.value()
        if len(content) > 1 and content[0] in (0, 0xFF) and content[0] >> 7 == content[1] >> 7:
            raise DecodeError(f"{name} is not DER", step=name)
        size, what = number, number
    elif kind == "text":
        text = reader.utf8(tag, 4 * high)
        size, what = len(text), text  # type: ignore[assignment]  # each kind has its type
    else:
        reader.expect(tag)
        members = reader.enter(step=name)
        roles: list[int] = []
        while members.more() and len(roles) <= high:
            roles.append(_read(members, ROLE_ID))  # type: ignore[arg-type]  # a number
        size, what = len(roles), tuple(roles)  # type: ignore[assignment]
    if not low <= size <= high:
        raise DecodeError(f"{name} is out of bounds", step=name)
    return what


def write_user_roles(infos: Iterable[UserRoleInfo]) -> bytes:
    """IECUserRoles, DER. ConfigError for what the structure has no room for."""
    writer = Writer()
    writer.begin(SEQUENCE)
    for info in infos:
        writer.begin(SEQUENCE)
        for component, value in zip(USER_ROLE_INFO, info, strict=True):
            if value is not None:
                _write(writer, component, value)
            elif not component.optional:
                raise ConfigError(f"a role token needs {component.name}")
        writer.end()
    writer.end()
    der = writer.getvalue()
    try:
        read_user_roles(Reader(der))
    except DecodeError as error:
        raise ConfigError(f"a role token cannot say this: {error}") from None
    return der


def _write(writer: Writer, component: Component, value: object) -> None:
    if isinstance(value, tuple):
        writer.begin(component.tag)
        for role in value:
            writer.integer(role, ROLE_ID.tag)
        writer.end()
    elif isinstance(value, str):
        writer.utf8(value, component.tag)
    elif isinstance(value, int):
        writer.integer(value, component.tag)


# --- what is believed -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleTrust:
    """Whose roles an endpoint believes, and where they hold. Plain data; the default needs nothing and believes what
    public-key certificates say without an area.

    Attributes:
        certificates: whether roles in public-key certificates count.
        authorities: DER certificates of attribute authorities whose attribute certificates count.
        issued_authorities: whether attribute certificates also count of whoever has a certificate with sOAIdentifier
            under one of the trust anchors (62351-9).
        required: refuse a peer that presents no role token that counts.
        areas: the areas of responsibility this endpoint is in; a grant for another area gives nothing, one without
            area holds anywhere.
        definitions: (role definition, revision or None for any) that are known here.
        roles: role ids that are known here.

    Raises: ConfigError for values that no token can have.
    """

    certificates: bool = True
    authorities: tuple[bytes, ...] = ()
    issued_authorities: bool = False
    required: bool = False
    areas: tuple[str, ...] = ()
    definitions: tuple[tuple[str, int | None], ...] = (("IEC62351-8", None),)
    roles: tuple[int, ...] = tuple(range(len(ROLE_NAMES)))

    def __post_init__(self) -> None:
        parts = {component.name: component for component in USER_ROLE_INFO}
        aor, revision, definition = parts["aor"], parts["revision"], parts["roleDefinition"]
        if not all(aor.low <= len(area) <= aor.high for area in self.areas):
            raise ConfigError(f"roles: an area of responsibility has {aor.low} to {aor.high} characters")
        for name, number in self.definitions:
            if not 1 <= len(name) <= definition.high:
                raise ConfigError(f"roles: a role definition has 1 to {definition.high} characters")
            if number is not None and not revision.low <= number <= revision.high:
                raise ConfigError(f"roles: a revision is {revision.low} to {revision.high}")
        if len({name for name, _ in self.definitions}) != len(self.definitions):
            raise ConfigError("roles: name each role definition once")
        if not all(ROLE_ID.low <= role <= ROLE_ID.high for role in self.roles):
            raise ConfigError(f"roles: a role id is {ROLE_ID.low} to {ROLE_ID.high}")
        if self.required and not (self.certificates or self.authorities or self.issued_authorities):
            raise ConfigError("roles: required, but no token counts; name an attribute authority")

    @property
    def attribute_certificates(self) -> bool:
        """Whether roles of attribute certificates count."""
        return bool(self.authorities) or self.issued_authorities


class Judged(NamedTuple):
    """What of a token counts.

    Attributes:
        grants: the roles.
        withdrawn: (role, aor, definition) -> sequence number of what the token takes away (operation delete).
        findings: why something was left out; one event for each reason.
    """

    grants: tuple[RoleGrant, ...]
    withdrawn: dict[tuple[int, str, str], int | None]
    findings: tuple[SecurityEvent, ...]


def judge(infos: Sequence[UserRoleInfo], trust: RoleTrust, source: Source) -> Judged:
    """The roles of a verified token that count here. Whatever is unknown is left out: never more rights by mistake."""
    grants: dict[RoleGrant, None] = {}
    withdrawn: dict[tuple[int, str, str], int | None] = {}
    reasons: dict[str, str] = {}
    known = dict(trust.definitions)
    for info in infos:
        aor = info.aor or ""
        if info.operation == OPERATION_DELETE:
            # It takes away, so it counts wherever it comes from.
            withdrawn.update(((role, aor, info.definition), info.sequence) for role in info.roles)
        elif not info.definition:
            reasons.setdefault("AT_ROLEDEF_EMPTY", f"roles {_some(info.roles)}")
        elif info.definition not in known:
            reasons.setdefault("AT_ROLEDEF_UNKNOWN", info.definition)
        elif known[info.definition] not in (None, info.revision):
            reasons.setdefault("AT_RV_NR_MISMATCH", f"{info.revision} of {info.definition}")
        elif info.aor is not None and info.aor not in trust.areas:
            reasons.setdefault("AT_AOR_UNKNOWN", info.aor)
        elif info.operation not in (None, OPERATION_ADD, OPERATION_CHANGE):
            reasons.setdefault("AT_OP_UNKNOWN", str(info.operation))
        else:
            unknown = [role for role in info.roles if role not in trust.roles]
            if unknown:
                reasons.setdefault("AT_ROLEID_UNKNOWN", _some(unknown))
            for role in info.roles:
                if role in trust.roles:
                    grants[RoleGrant(role, aor, info.revision, info.definition, source, info.sequence)] = None
    findings = tuple(named(mnemonic, reason=reason, granted_by=source) for mnemonic, reason in reasons.items())
    return Judged(tuple(grants), withdrawn, findings)


Withdrawn = tuple[tuple[tuple[int, str, str], int], ...]


class RoleSequences:
    """The highest statusChangeSequenceNumber that was seen of each role of one peer: what an older token says of it is
    outdated. Bounded; not kept over a restart."""

    __slots__ = ("_highest",)

    def __init__(self) -> None:
        self._highest: dict[tuple[int, str, str], int] = {}

    def judge(
        self, grants: tuple[RoleGrant, ...], withdrawn: Withdrawn
    ) -> tuple[tuple[RoleGrant, ...], tuple[SecurityEvent, ...]]:
        """The grants that are not outdated, and an event if some are.

        Arguments:
            grants: of a verified peer.
            withdrawn: (role, aor, definition) and number of what its tokens take away.
        """
        highest = self._highest
        told = [((grant.role, grant.aor, grant.definition), grant.sequence) for grant in grants]
        for key, number in (*told, *withdrawn):
            if number is not None and number > highest.get(key, -1):
                highest[key] = number
                if len(highest) > limits.OUR_ROLE_SEQUENCES:
                    del highest[next(iter(highest))]
        kept = tuple(
            grant
            for grant, (key, number) in zip(grants, told, strict=True)
            if number is None or number >= highest.get(key, -1)
        )
        if len(kept) == len(grants):
            return grants, ()
        old = next(grant for grant in grants if grant not in kept)
        return kept, (named("AT_SEQ_NR_FAIL", reason=f"role {old.role}: {old.sequence} is not the newest"),)


def _some(roles: Sequence[int]) -> str:
    return ", ".join(map(str, roles[:8]))
