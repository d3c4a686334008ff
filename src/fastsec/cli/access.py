"""``fastsec access explain``: what somebody may do at a route, and why not."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastsec.access.policy import AccessPolicy
    from fastsec.mms.services import Name, Request

DENIED = 1


def main(arguments: Sequence[str]) -> int:
    """Say whether a request would be allowed.

    Result: 0 allowed; 1 denied; 2 the file or the question cannot be used.
    """
    parser = argparse.ArgumentParser(prog="fastsec access", description="Access policies of the gateway.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    explain = commands.add_parser("explain", help="whether roles may do something, and what they would need")
    explain.add_argument("file", metavar="FILE.toml", type=Path, help="the gateway's configuration file")
    explain.add_argument("--route", metavar="NAME", help="its name; needed if several routes have a policy")
    explain.add_argument("--role", action="append", default=[], metavar="ROLE", help="VIEWER, -1 ...; several: again")
    explain.add_argument("--service", required=True, help="MMS service, e.g. read, write, getNameList, fileOpen")
    explain.add_argument(
        "--object", action="append", default=[], metavar="LD/ITEM", help="e.g. 'A1LD0/XCBR1$CO$Pos$Oper'"
    )
    explain.add_argument("--list", metavar="LD/ITEM", help="a named variable list instead, or the one to define")
    options = parser.parse_args(list(arguments))

    from fastsec.gateway import settings as reading
    from fastsec.gateway.model import SettingsError

    try:
        settings = reading.load(options.file, environ=os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    policies = {route.name: route.access for route in settings.routes if route.access is not None}
    name = options.route or (next(iter(policies)) if len(policies) == 1 else None)
    if name not in policies:
        known = f"name one of {', '.join(policies)} with --route" if policies else "no route has access"
        print(f"{options.file}: {known}", file=sys.stderr)
        return 2
    try:
        request, roles = _request(options), [_role(text) for text in options.role]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return _explain(name, policies[name], roles, request)


def _explain(route: str, policy: AccessPolicy, roles: list[int], request: Request) -> int:
    from fastsec.access import rights
    from fastsec.access.judge import judge
    from fastsec.access.policy import Held
    from fastsec.pki.roles import RoleGrant

    granted = [RoleGrant(role, "", policy.revision or 0, policy.definition, "certificate") for role in roles]
    held = Held(policy.grants_of(granted))
    who = " and ".join(map(rights.role_name, roles)) or "without a role"
    denial = judge(request, held, policy.unknown)
    print(f'route "{route}", access "{policy.name}", {who}: {request.service} is {"denied" if denial else "allowed"}')
    if denial is None:
        return 0
    if denial.object:
        print(f"  object: {denial.object}")
    if denial.reason:
        print(f"  reason: {denial.reason}")
    print(f"  lacks: {rights.names(denial.missing)}")
    return DENIED


def _role(text: str) -> int:
    from fastsec.access import rights
    from fastsec.gateway.access import role_of

    role = role_of(text)
    if role is None:
        raise ValueError(f"{text}: no role; write one of {', '.join(rights.ROLE_NAMES)}, or a number")
    return role


def _request(options: argparse.Namespace) -> Request:
    from fastsec.mms import services

    service = options.service
    if service not in services.NAMES.values():
        raise ValueError(f"{service}: no MMS service; write for example read, write, getNameList, fileOpen")
    names = tuple(map(_name, options.object))
    named_list = _name(options.list) if options.list else None
    if service in ("read", "write") and bool(names) == bool(named_list):
        raise ValueError(f"{service}: name what, with --object, or with --list")
    everything = service == "deleteNamedVariableList" and not names
    return services.Request(service, names, len(names), named_list, everything)


def _name(text: str) -> Name:
    from fastsec.mms.services import Name

    domain, slash, item = text.partition("/")
    return Name(domain, item) if slash else Name("", text)
