"""tshark with our dissector: that of the system, or the one that FASTSEC_TSHARK names.

Wireshark from 4.2 on does not run Lua scripts as root, so root runs it as nobody, on copies that nobody may read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from fastsec.inspect import LUA

NOBODY = 65534
WARNING = 0x00600000


def program() -> str:
    found = os.environ.get("FASTSEC_TSHARK") or shutil.which("tshark")
    assert found is not None, "tshark is needed; scripts/ lists and installs it"
    return found


@cache
def version() -> tuple[int, int]:
    done = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True, timeout=60)
    match = re.search(r"TShark \(Wireshark\) (\d+)\.(\d+)", done.stdout)
    assert match is not None, done.stdout
    return int(match[1]), int(match[2])


def tshark(capture: bytes, *arguments: str, script: Path | None = LUA) -> str:
    """What tshark writes about a capture; it must neither fail nor say a word of Lua."""
    with tempfile.TemporaryDirectory(prefix="fastsec-tshark-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        path = directory / "capture.pcap"
        path.write_bytes(capture)
        command = [program(), "-n", "-r", str(path)]
        if script is not None:
            shutil.copy(script, directory / script.name)
            command[1:1] = ["-X", f"lua_script:{directory / script.name}"]
        # Without the user's preferences and plugins, so that the result is the same everywhere.
        environment = {**os.environ, "HOME": name, "XDG_CONFIG_HOME": name, "WIRESHARK_CONFIG_DIR": name}
        drop = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 and version() > (4, 0) else {}
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            check=False,
            timeout=110,
            env=environment,
            cwd=name,
            **drop,  # type: ignore[call-overload]  # three of run's own keywords
        )
    errors = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 0, errors
    assert "lua" not in errors.lower(), errors
    return done.stdout.decode("utf-8", "replace")


def fields(capture: bytes, names: Sequence[str], *arguments: str) -> list[dict[str, list[str]]]:
    """Per frame all values of each field."""
    wanted = [part for name in names for part in ("-e", name)]
    shape = ["-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=\x1f"]
    found = []
    for line in tshark(capture, "-T", "fields", *wanted, *shape, *arguments).split("\n"):
        if line:
            parts = line.split("\t")
            assert len(parts) == len(names), line
            found.append({name: part.split("\x1f") if part else [] for name, part in zip(names, parts, strict=True)})
    return found


def columns(capture: bytes, *names: str) -> dict[str, list[str]]:
    """All values of each field, over all frames."""
    frames = fields(capture, names)
    return {name: [value for frame in frames for value in frame[name]] for name in names}


def column(capture: bytes, name: str, *arguments: str) -> list[str]:
    """All values of a field, over all frames."""
    return [value for frame in fields(capture, [name], *arguments) for value in frame[name]]
