"""The README's code is run, not only read."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.S) if containing in text]
    assert len(found) == 1
    return found[0]


def test_the_twelve_lines_work(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for line in block("sh", "pki init").splitlines():
        command = line.split()
        assert command[0] == "fastsec"
        subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, env=environ, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = block("python", "fastsec.connect")
    assert len(code.splitlines()) <= 13  # "import fastsec" and twelve lines
    code = code.replace("127.0.0.1:3782", f"127.0.0.1:{port}")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == r"b'\xa0\x03\x02\x01\x01'"


def test_every_document_named_exists() -> None:
    for target in re.findall(r"\]\(((?:docs/)?[\w.-]+\.md)\)", README):
        assert (ROOT / target).is_file(), target


def test_the_measured_table_is_filled_in() -> None:
    assert "MEASURED_TABLE" not in README
    assert re.search(r"\|.*TLS 1\.3.*\|", README)
