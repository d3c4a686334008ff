"""``fastsec pki``: a trial authority for demos and first steps. Not for operation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from fastsec.cli import pki_roles
from fastsec.errors import ConfigError, FastsecError
from fastsec.instant import now
from fastsec.pki import trial
from fastsec.pki.identity import OsiName

if TYPE_CHECKING:
    from fastsec.pki.trial import TrialAuthority

_NOTICE = "This is a TRIAL authority: its key lies unprotected on this disk. Do not use it in operation."


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``pki`` to a parser's subcommands."""
    pki = subparsers.add_parser("pki", help="make a trial authority and issue certificates", description=_NOTICE)
    _add_actions(pki)


def main(arguments: Sequence[str]) -> int:
    """Run ``fastsec pki`` with these arguments. Result: the exit status, 0 done, 1 failed, 2 wrong use."""
    parser = argparse.ArgumentParser(prog="fastsec pki", description=_NOTICE)
    _add_actions(parser)
    try:
        args = parser.parse_args(list(arguments))
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return run(args)


def run(args: argparse.Namespace) -> int:
    """Do what the parsed arguments say. Result: the exit status, 0 done, 1 failed."""
    try:
        lines = _ACTIONS[args.action](args)
    except FastsecError as error:
        print(f"fastsec pki: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"fastsec pki: {error.filename or args.directory}: {error.strerror}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


def _add_actions(pki: argparse.ArgumentParser) -> None:
    actions = pki.add_subparsers(dest="action", required=True, metavar="ACTION")
    keys = ("p256", "brainpool", "rsa2048", "rsa3072")

    init = actions.add_parser("init", help="make a trial authority in DIR", description=_NOTICE)
    init.add_argument("--days", type=int, default=trial.ROOT_DAYS, help="validity (default %(default)s)")
    issue = actions.add_parser("issue", help="issue the certificates of one device", description=_NOTICE)
    issue.add_argument("--days", type=int, default=trial.LEAF_DAYS, help="validity (default %(default)s)")
    revoke = actions.add_parser("revoke", help="revoke the certificates of one device and renew the CRL")
    renew = actions.add_parser("renew-crl", help="renew the CRL")

    pki_roles.add_roles(issue)
    pki_roles.add_actions(actions, keys, _NOTICE)
    for action in (init, issue, revoke, renew):
        action.add_argument("directory", metavar="DIR", help="the authority's directory")
        if action is not issue:
            action.add_argument(
                "--crl-days", type=int, default=trial.CRL_DAYS, help="validity of the CRL (default %(default)s)"
            )
    for action in (init, issue):
        action.add_argument("--key", choices=keys, default="p256", help="type of key (default %(default)s)")
    for action in (issue, revoke):
        action.add_argument("name", metavar="NAME", help="what its files are called")
    issue.add_argument("--osi", metavar="AP-TITLE:AE-QUALIFIER", help="identity of its end-to-end certificate")
    issue.add_argument(
        "--tls",
        metavar="HOST",
        action="append",
        default=[],
        help="host name or IP address of a TLS certificate; repeat",
    )


def _open(args: argparse.Namespace) -> TrialAuthority:
    return trial.TrialAuthority.open(args.directory, now().utc_ms)


def _init(args: argparse.Namespace) -> list[str]:
    authority = trial.TrialAuthority.create(
        args.directory, now().utc_ms, key=args.key, days=args.days, crl_days=args.crl_days
    )
    return [
        _NOTICE,
        f"anchor  {authority.directory}/root.pem",
        f"CRL     {authority.directory}/root.crl.pem",
        f"next    fastsec pki issue {authority.directory} NAME --osi AP-TITLE:AE-QUALIFIER [--tls HOST]",
    ]


def _issue(args: argparse.Namespace) -> list[str]:
    if not args.osi and not args.tls:
        raise ConfigError("say what to issue: --osi AP-TITLE:AE-QUALIFIER, --tls HOST, or both")
    osi = OsiName.parse(args.osi) if args.osi else None
    roles = pki_roles.roles_of(args)
    if roles and osi is None:
        raise ConfigError("roles stand in the end-to-end certificate: add --osi AP-TITLE:AE-QUALIFIER")
    authority = _open(args)
    lines = [_NOTICE]
    if osi is not None:
        issued = authority.issue_e2e(args.name, osi, key=args.key, days=args.days, roles=roles)
        lines += [f"e2e     {path}" for path in issued.paths]
    if args.tls:
        issued = authority.issue_tls(args.name, args.tls, key=args.key, days=args.days)
        lines += [f"tls     {path}" for path in issued.paths]
    return lines


def _revoke(args: argparse.Namespace) -> list[str]:
    authority = _open(args)
    paths = authority.revoke_name(args.name, crl_days=args.crl_days)
    return [f"revoked {path}" for path in paths] + [f"CRL     {authority.directory}/root.crl.pem"]


def _renew(args: argparse.Namespace) -> list[str]:
    authority = _open(args)
    authority.revoke(crl_days=args.crl_days)
    return [f"CRL     {authority.directory}/root.crl.pem"]


_ACTIONS: Final[dict[str, Callable[[argparse.Namespace], list[str]]]] = {
    "init": _init,
    "issue": _issue,
    "revoke": _revoke,
    "renew-crl": _renew,
    "init-roles": lambda args: [_NOTICE, *pki_roles.init(args, _open(args))],
    "issue-roles": lambda args: [_NOTICE, *pki_roles.issue(args, _open(args))],
    "revoke-roles": lambda args: pki_roles.revoke(args, _open(args)),
}
