"""The command ``fastsec``. Each subcommand's module is imported only when it is called, so that help is immediate."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Final

USAGE: Final = """\
usage: fastsec [--help] [--version] COMMAND ...

End-to-end security (IEC 62351-4, native mode) for MMS / IEC 61850.

commands:
  gateway FILE.toml             secure unmodified MMS clients and servers
  gateway --check FILE.toml     only say what is wrong with the file
  access explain FILE.toml ...  what roles may do at a route of the gateway
  pki init DIR                  make a trial authority
  pki issue DIR NAME --osi AP-TITLE:AE-QUALIFIER [--tls HOST]
                                issue certificates under it
  inspect FILE|- [--json]       show the SecPDUs of a capture, a hex dump or a DER file
  events list|verify            the security events, and whether an event file was tampered with
  metrics list|dashboard        what it tells Prometheus, and a dashboard for Grafana
  conformance [--format F]      the conformance statement, each row tried out
  demo [--json]                 show it all between real MMS peers, with an attacker in the middle
  bench CASE [--json] [--full]  measure (from a checkout)

fastsec COMMAND --help tells more.
"""

COMMANDS: Final = {
    "gateway": "fastsec.cli.gateway",
    "pki": "fastsec.cli.pki",
    "access": "fastsec.cli.access",
    "inspect": "fastsec.cli.inspect",
    "events": "fastsec.cli.events",
    "metrics": "fastsec.cli.metrics",
    "conformance": "fastsec.cli.conformance",
    "demo": "fastsec.cli.demo",
    "bench": "fastsec.cli.bench",
}

EXIT_USAGE: Final = 2


def version() -> str:
    """The version of this package."""
    from fastsec import __version__

    return __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Arguments:
        arguments: without the program's name; by default those of the process.
    Result: the exit status: 0 done, 1 failed, 2 wrong use, other values as a subcommand says.
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    if not args or args[0] in ("-h", "--help", "help"):
        (sys.stdout if args else sys.stderr).write(USAGE)
        return 0 if args else EXIT_USAGE
    if args[0] in ("-V", "--version"):
        print(f"fastsec {version()}")
        return 0
    module = COMMANDS.get(args[0])
    if module is None:
        import difflib

        near = difflib.get_close_matches(args[0], COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"commands are {', '.join(COMMANDS)}"
        print(f"fastsec: no command {args[0]!r}; {hint}", file=sys.stderr)
        return EXIT_USAGE
    try:
        return int(importlib.import_module(module).main(args[1:]) or 0)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130
