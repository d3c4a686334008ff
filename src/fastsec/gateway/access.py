"""``[access.NAME]``: access policies in the configuration file, and what a route makes of one.

A route with ``role = "server"`` names a policy with ``access``; ``fastsec.gateway.enforce`` carries it out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from fastsec import limits
from fastsec.access import rights
from fastsec.access.policy import AccessPolicy, Grant, Unknown
from fastsec.errors import ConfigError
from fastsec.gateway import tables
from fastsec.gateway.tables import Table, Wrong
from fastsec.pki.roles import RoleTrust

if TYPE_CHECKING:
    from fastsec.gateway.tables import Problems

Policies = Mapping[str, AccessPolicy]

POLICIES_MAX: Final = 64
_DEFINITION_MAX: Final = 23
_ROLE_HINT: Final = 'write a role as its name (VIEWER) or, a private one, as its number in quotes ("-1")'


def read_policies(top: Table, problems: Problems) -> Policies:
    """All tables ``[access.NAME]`` of the file."""
    below = top.table("access", "[access]")
    if below is None:
        return {}
    found: dict[str, AccessPolicy] = {}
    for name in below.values:
        table = below.table(name, f"[access.{name}]")
        if table is None:
            below.error(name, f"{name}: [access] has no keys of its own; write [access.NAME], one for each policy")
        elif len(found) >= POLICIES_MAX:
            below.error(name, f"access: more than {POLICIES_MAX} policies")
        else:
            found[name] = _policy(name, table, problems)
    return found


def _policy(name: str, table: Table, problems: Problems) -> AccessPolicy:
    definition = table.get("definition", _definition, rights.DEFINITION)
    revision = table.get("revision", tables.integer(0, 255), None)
    default = table.each("default", _grant, maximum=limits.OUR_ACCESS_GRANTS)
    unknown = table.get("unknown", tables.choice("deny", "all-rights"), "deny")
    # Numbers mean other roles in another definition, so the default map is for the standard's alone.
    roles = dict(AccessPolicy().roles) if definition == rights.DEFINITION else {}
    below = table.table("roles", f"[access.{name}.roles]")
    if below is not None:
        given: dict[int, str] = {}
        for key in below.values:
            role = role_of(key)
            row = below.each(key, _grant, maximum=limits.OUR_ACCESS_GRANTS)
            if role is None:
                below.error(key, f"{key}: no role of IEC 62351-8; {_ROLE_HINT}")
            elif role in given:
                below.error(key, f"{key}: the same role as {given[role]}; remove one")
            else:
                given[role] = key
                roles[role] = row
        if len(roles) > limits.OUR_ACCESS_ROLES:
            below.error("", f"at most {limits.OUR_ACCESS_ROLES} roles; split the policy")
            roles = {}
    table.done()
    return AccessPolicy(
        name=name, definition=definition, revision=revision, roles=tuple(roles.items()), default=default,
        unknown=cast(Unknown, unknown),
    )  # fmt: skip


def _definition(value: Any) -> str:
    text = tables.string(value)
    if len(text) > _DEFINITION_MAX:
        raise Wrong(f"write at most {_DEFINITION_MAX} characters")
    return text


def _grant(value: Any) -> Grant:
    example = 'write a right, "READVALUES", or one for some objects, "CONTROL:A1LD0/XCBR1$CO"'
    if not isinstance(value, str):
        raise Wrong(example)
    try:
        return Grant.parse(value)
    except ConfigError as error:
        raise Wrong(f"{error}; {example}") from None


def role_of(key: str) -> int | None:
    """The number of a role that is written as its name or as a number; None for anything else."""
    known = rights.ROLE_NAMES.get(key)
    if known is not None:
        return known
    digits = key.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 5 or (digits[0] == "0" and key != "0"):
        return None
    number = int(key)
    return number if rights.ROLE_MIN <= number <= rights.ROLE_MAX else None


def of_route(table: Table, role: str | None, policies: Policies) -> AccessPolicy | None:
    """The policy of a route. Only next to the device there is something to enforce."""
    policy = table.get("access", _named(policies), None)
    if policy is not None and role == "client":
        table.error("access", 'access belongs to role = "server": rights are judged next to the device')
    return policy


def _named(policies: Policies) -> Callable[[Any], AccessPolicy | None]:
    """A reader of a route's ``access``: the name of a policy, true for the default map, false for none."""

    def read(value: Any) -> AccessPolicy | None:
        if value is False:
            return None
        if value is True:
            return AccessPolicy()
        if isinstance(value, str) and value in policies:
            return policies[value]
        known = f"; the file has {', '.join(policies)}" if policies else "; the file has no [access.NAME]"
        raise Wrong(f"write true for the default map, or the name of a policy{known}")

    return read


def believed(trust: RoleTrust, policy: AccessPolicy | None) -> RoleTrust:
    """``trust``, so that the roles the policy speaks of are known: its own definition, revision and role numbers."""
    if policy is None:
        return trust
    definitions = dict(trust.definitions)
    if policy.revision is not None or policy.definition not in definitions:
        definitions[policy.definition] = policy.revision
    roles = dict.fromkeys((*trust.roles, *(role for role, _ in policy.roles)))
    return dataclasses.replace(trust, definitions=tuple(definitions.items()), roles=tuple(roles))
