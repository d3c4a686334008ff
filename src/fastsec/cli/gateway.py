"""``fastsec gateway``: run a gateway, or check its configuration file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Run the gateway, or with ``--check`` say what is wrong with the file.

    Result: 0 fine; 2 the file, a file it names, or an address cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="fastsec gateway",
        description="Secure unmodified MMS clients and servers end to end (IEC 62351-4).",
        epilog="SIGHUP reloads certificates, anchors and CRLs; SIGTERM drains and ends, a second one ends at once.",
    )
    parser.add_argument("file", metavar="FILE.toml", type=Path, help="the configuration file")
    parser.add_argument("--check", action="store_true", help="only check the file and the files it names")
    parser.add_argument(
        "--insecure-key-log",
        metavar="FILE",
        type=Path,
        help="for development: write the keys of all associations to FILE, for fastsec inspect --keys; "
        "whoever reads it reads and forges everything",
    )
    options = parser.parse_args(list(arguments))

    from fastsec.gateway import settings as reading
    from fastsec.gateway.model import SettingsError

    try:
        settings = reading.load(options.file, environ=os.environ)
        from fastsec.gateway import service

        if not options.check:
            return service.serve(settings, insecure_key_log=options.insecure_key_log)
        doubts, fine = service.check(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    for doubt in doubts:
        print(f"warning: {doubt}")
    for line in fine:
        print(line)
    print(f"{settings.path}: fine" + (f", warnings: {len(doubts)}" if doubts else ""))
    return 0
