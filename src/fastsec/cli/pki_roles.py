"""``fastsec pki`` for roles (IEC 62351-8): in certificates, and in attribute certificates of a trial authority."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fastsec.errors import ConfigError
from fastsec.pki import trial, trial_roles
from fastsec.pki.attribute import AttributeCertificate
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import load_attribute_certificate, load_certificates
from fastsec.pki.identity import OsiName
from fastsec.pki.roles import ROLE_NAMES

if TYPE_CHECKING:
    from fastsec.pki.roles import UserRoleInfo

_ROLES = ", ".join(ROLE_NAMES)


def add_actions(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], keys: tuple[str, ...], notice: str
) -> None:
    """Add the actions about attribute certificates."""
    init = actions.add_parser("init-roles", help="make an attribute authority, for role tokens", description=notice)
    issue = actions.add_parser("issue-roles", help="issue an attribute certificate with roles", description=notice)
    revoke = actions.add_parser("revoke-roles", help="revoke an attribute certificate and renew its CRL")
    for action in (init, issue, revoke):
        action.add_argument("directory", metavar="DIR", help="the trial authority's directory")
        action.add_argument("authority", metavar="AUTHORITY", help="what the attribute authority's files are called")
    init.add_argument("--key", choices=keys, default="p256", help="type of key (default %(default)s)")
    init.add_argument("--days", type=int, default=trial.LEAF_DAYS, help="validity (default %(default)s)")
    for action in (init, revoke):
        action.add_argument(
            "--crl-days", type=int, default=trial.CRL_DAYS, help="validity of the CRL (default %(default)s)"
        )
    for action in (issue, revoke):
        action.add_argument("name", metavar="NAME", help="what the holder's files are called")
    add_roles(issue)
    issue.add_argument(
        "--hours", type=int, default=trial_roles.TOKEN_HOURS, help="validity in hours (default %(default)s)"
    )
    issue.add_argument(
        "--by-name", action="store_true", help="name the holder by its identity, so that a renewed certificate fits too"
    )
    issue.add_argument(
        "--chain", action="store_true", help="add the attribute authority's certificate, to be sent along"
    )
    issue.add_argument(
        "--no-revocation", action="store_true", help="say that nothing tells of a revocation (noRevAvail)"
    )


def add_roles(action: argparse.ArgumentParser) -> None:
    """Add the options that say which roles."""
    action.add_argument(
        "--role", action="append", default=[], metavar="ROLE", help=f"a role: {_ROLES}, or a number; repeat"
    )
    action.add_argument(
        "--area", action="append", default=[], metavar="AREA", help="area of responsibility, else anywhere; repeat"
    )
    action.add_argument("--role-revision", type=int, default=0, metavar="N", help="revision (default %(default)s)")
    action.add_argument(
        "--role-definition", default="IEC62351-8", metavar="NAME", help="role definition (default %(default)s)"
    )


def roles_of(args: argparse.Namespace) -> tuple[UserRoleInfo, ...]:
    """What the options of ``add_roles`` say."""
    return trial_roles.role_infos(args.role, args.area, args.role_revision, args.role_definition)


def init(args: argparse.Namespace, root: trial.TrialAuthority) -> list[str]:
    """Make an attribute authority."""
    trial_roles.TrialAttributeAuthority.create(
        root, args.authority, key=args.key, days=args.days, crl_days=args.crl_days
    )
    base = f"{root.directory}/{args.authority}.aa"
    return [
        f"roles   {base}.pem",
        f"CRL     {base}.crl.pem",
        f"next    fastsec pki issue-roles {root.directory} {args.authority} NAME --role OPERATOR",
    ]


def issue(args: argparse.Namespace, root: trial.TrialAuthority) -> list[str]:
    """Issue an attribute certificate."""
    roles = roles_of(args)
    if not roles:
        raise ConfigError(f"say which role: --role {_ROLES}, or a number")
    authority = trial_roles.TrialAttributeAuthority.open(root, args.authority)
    trial.check_name(args.name)
    (holder,) = load_certificates(Path(args.directory) / f"{args.name}.e2e.pem")
    oid = Certificate(holder).subject_oid
    if args.by_name and oid is None:
        raise ConfigError("the holder's certificate names no OSI identity; leave --by-name out")
    token = authority.issue(
        holder,
        roles,
        hours=args.hours,
        named=OsiName.from_oid(oid) if args.by_name and oid is not None else None,
        revocable=not args.no_revocation,
    )
    return [f"token   {authority.save(token, args.name, chain=args.chain)}"]


def revoke(args: argparse.Namespace, root: trial.TrialAuthority) -> list[str]:
    """Revoke the attribute certificate of a holder."""
    authority = trial_roles.TrialAttributeAuthority.open(root, args.authority)
    trial.check_name(args.name)
    path = Path(args.directory) / f"{args.name}.roles.pem"
    token: AttributeCertificate = load_attribute_certificate(path)[0]
    if token.issuer != Certificate(authority.certificate).subject:
        raise ConfigError(f"{path} was issued by another attribute authority")
    authority.revoke(int.from_bytes(token.serial, "big"), crl_days=args.crl_days)
    return [f"revoked {path}", f"CRL     {args.directory}/{args.authority}.aa.crl.pem"]
