"""``fastsec inspect``: SecPDUs of a capture, a hex dump or a DER file, for people and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from fastsec.inspect import LUA
from fastsec.inspect.source import Damage

if TYPE_CHECKING:
    from fastsec.inspect.keylog import KeyLog

_FORMATS = ("auto", "pcap", "hex", "der", "tpkt")


def main(arguments: Sequence[str]) -> int:
    """Run ``fastsec inspect``.

    Result: 0 read to the end; 1 the file or the key log is damaged, or cannot be read; 2 wrong use.
    """
    parser = argparse.ArgumentParser(
        prog="fastsec inspect",
        description="Show the SecPDUs (IEC 62351-4) of a pcap or pcapng file, a hex dump, DER or a stream of TPKTs.",
        epilog="exit status: 0 read to the end, 1 damaged (said where and why), 2 wrong use",
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="what to read; - is standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--format", choices=_FORMATS, default="auto", help="what FILE is (default: found out)")
    parser.add_argument("--keys", metavar="KEYLOG", help="a key log: verify and decrypt transfers")
    parser.add_argument("--full", action="store_true", help="show the octets of application data too")
    parser.add_argument("--lua", action="store_true", help="print where the dissector for Wireshark is, and end")
    options = parser.parse_args(list(arguments))
    if options.lua:
        print(LUA)
        return 0
    if options.file is None:
        parser.error("name a FILE, or - for standard input")
    try:
        keys = _read_keys(options.keys)
        if options.file == "-":
            return _show(sys.stdin.buffer, options, keys)
        with open(options.file, "rb", buffering=0) as file:
            return _show(file, options, keys)
    except BrokenPipeError:
        raise
    except Damage as damage:
        return _fail(f"{options.keys}: {damage}")
    except OSError as error:
        return _fail(f"{error.filename or options.file}: {error.strerror}")


def _fail(message: str) -> int:
    from fastsec.inspect.words import printable

    print(f"fastsec inspect: {printable(message, 1000)}", file=sys.stderr)
    return 1


def _read_keys(path: str | None) -> KeyLog | None:
    from fastsec.inspect.keylog import KeyLog

    if path is None:
        return None
    with open(path, encoding="ascii", errors="replace") as file:
        return KeyLog(iter(lambda: file.readline(4096), ""))


def _show(file: BinaryIO, options: argparse.Namespace, keys: KeyLog | None) -> int:
    from fastsec.inspect import text
    from fastsec.inspect.run import Inspector
    from fastsec.inspect.source import Source

    out = sys.stdout
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="backslashreplace")
    inspector = Inspector(keys, full=options.full)
    for record in inspector.run(Source(file), options.format):
        if options.json:
            out.write(json.dumps(record, separators=(",", ":")) + "\n")
        else:
            out.write("\n".join(text.lines(record)) + "\n")
        if options.file == "-":
            out.flush()  # a capture may be going on
    out.flush()
    if inspector.damaged and not options.json:
        _fail(f"{os.path.basename(options.file)} is damaged, see above")
    return 1 if inspector.damaged else 0
