"""The command line's front: help without imports, versions, commands that do not exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fastsec import cli
from fastsec.cli import bench, demo


def test_help_and_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"  {command} " in out
    assert cli.main([]) == cli.EXIT_USAGE
    assert "usage" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    name, number = capsys.readouterr().out.split()
    assert name == "fastsec"
    assert number[0].isdigit()


def test_an_unknown_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gatway"]) == cli.EXIT_USAGE
    assert "did you mean gateway?" in capsys.readouterr().err
    assert cli.main(["xyz"]) == cli.EXIT_USAGE
    assert "commands are gateway, pki" in capsys.readouterr().err


def test_help_imports_neither_asyncio_nor_cryptography() -> None:
    code = (
        "import sys, fastsec.cli; status = fastsec.cli.main(['--help'])\n"
        "heavy = {'asyncio', 'ssl', 'cryptography', 'uvloop', 'logging', 'argparse'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr); sys.exit(status or bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_bench_outside_a_checkout_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "a" / "b" / "c" / "bench.py"))
    assert bench.checkout() is None
    assert bench.main(["record"]) == 2
    assert "checkout" in capsys.readouterr().err


def test_demo_without_its_peers_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastsec.demo", None)
    with pytest.raises(ModuleNotFoundError):
        demo.main([])

    class Missing:
        def __getattr__(self, name: str) -> object:
            raise ModuleNotFoundError("No module named 'hat'", name="hat.drivers")

    monkeypatch.setitem(sys.modules, "fastsec.demo", Missing())  # type: ignore[arg-type]  # stands for the package
    assert demo.main([]) == 2
    assert "fastsec[demo]" in capsys.readouterr().err


def test_module_entry() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastsec", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("fastsec ")
