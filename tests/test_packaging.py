"""What goes into the sdist and into the wheel that is built from it, and what their metadata say."""

from __future__ import annotations

import email
import email.message
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("src", "tests", "docs", "benchmarks", "scripts")
ONE = "cursor"  # the only extension that the wheel of this test has; the others are built in the same way
CORE = "src/fastsec/_core"
# What lies about in a tree that was worked in and has no place in an sdist or a wheel.
REMAINS = (
    f"{CORE}/cursor.c",
    f"{CORE}/cursor.html",
    f"{CORE}/guard.cpython-311-x86_64-linux-gnu.so",
    f"{CORE}/__pycache__/guard.cpython-311.pyc",
    "src/fastsec/stray.so",
    "tests/stray.c",
    "build/cython-release/src/fastsec/_core/cursor.c",
    ".venv/pyvenv.cfg",
)


@dataclass(frozen=True)
class Built:
    """An sdist and the wheel made from it.

    Attributes:
        tree: what the sdist was made of.
        source: the sdist's files, without its folder.
        wheel: the wheel's files.
        metadata: of the wheel.
        unpacked: where the wheel's files are.
    """

    tree: Path
    source: frozenset[str]
    wheel: frozenset[str]
    metadata: email.message.Message
    unpacked: Path


def run(*arguments: str, cwd: Path, **environ: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FASTSEC_")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**kept, **environ}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    base = tmp_path_factory.mktemp("packaging")
    tree = base / "tree"
    tree.mkdir()
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, tree)
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("*.so", "*.c", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    for name in REMAINS:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"a remain")
    # As build front ends do it (PEP 517), but in this environment: nothing is downloaded.
    backend = "import setuptools.build_meta as backend; backend.build_sdist('..')"
    run("-c", backend, cwd=tree)
    (archive,) = base.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        source = frozenset(member.name.partition("/")[2] for member in packed.getmembers() if member.isfile())
    shutil.unpack_archive(archive, base / "source")
    (unpacked_source,) = (base / "source").iterdir()
    backend = "import setuptools.build_meta as backend; backend.build_wheel('../..')"
    run("-c", backend, cwd=unpacked_source, FASTSEC_ONLY=ONE)
    (wheel,) = base.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed_wheel:
        names = frozenset(packed_wheel.namelist())
        packed_wheel.extractall(base / "wheel")
    (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    return Built(
        tree=tree,
        source=source,
        wheel=names,
        metadata=email.message_from_bytes((base / "wheel" / metadata).read_bytes()),
        unpacked=base / "wheel",
    )


def files(folder: str, *suffixes: str) -> set[str]:
    """The files of the checkout below ``folder`` with one of the suffixes."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.name.endswith(suffixes) and "__pycache__" not in path.parts
    }


def test_the_sdist_is_whole(built: Built) -> None:
    wanted = files("src", ".py", ".pyi", ".pyx", ".pxd", ".csv", ".json", ".service", ".lua", "py.typed")
    wanted |= files("tests", ".py", ".json", ".bin", ".pcap", ".pcapng") | files("docs", ".md") | files("scripts", "")
    wanted |= files("benchmarks", ".py")
    wanted = {name for name in wanted if (ROOT / name).is_file()}
    wanted |= {"pyproject.toml", "setup.py", "Makefile", "MANIFEST.in"}
    wanted |= {"README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md"}
    assert wanted <= built.source, sorted(wanted - built.source)
    for suffix in (".pyx", ".pxd", ".pyi", "py.typed", ".csv", ".json", ".service", ".lua"):
        assert any(name.startswith("src/") and name.endswith(suffix) for name in built.source), suffix


def test_the_sdist_holds_nothing_that_was_built(built: Built) -> None:
    assert not {name for name in built.source if name.endswith((".c", ".so", ".pyc", ".html", ".o"))}
    assert not {name for name in built.source if name.startswith(("build/", "dist/", ".venv/"))}
    assert not set(REMAINS) & built.source


def test_the_wheel_holds_the_package(built: Built) -> None:
    kinds = (".py", ".pyi", ".csv", ".json", ".service", ".lua", "py.typed")
    wanted = {name.removeprefix("src/") for name in files("src", *kinds)}
    assert wanted <= built.wheel, sorted(wanted - built.wheel)
    assert [name for name in built.wheel if name.startswith(f"fastsec/_core/{ONE}.") and name.endswith(".so")]


def test_the_wheel_holds_nothing_else(built: Built) -> None:
    top = {name.partition("/")[0] for name in built.wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"fastsec"}
    assert not {name for name in built.wheel if name.endswith((".c", ".pyc", ".html", ".o"))}
    assert [name for name in built.wheel if name.endswith(".so")] == [
        name for name in built.wheel if name.startswith(f"fastsec/_core/{ONE}.cpython")
    ]
    assert not {name for name in built.wheel if "tests" in name.split("/") or "/test_" in name}


def test_the_extension_of_the_wheel_works(built: Built, tmp_path: Path) -> None:
    code = "import fastsec._core.cursor as cursor; print(cursor.__file__, cursor.tlv(0x04, b'x').hex())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(built.unpacked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    file, octets = done.stdout.split()
    assert Path(file).is_relative_to(built.unpacked)
    assert octets == "040178"


def test_metadata(built: Built) -> None:
    metadata = built.metadata
    assert metadata["Name"] == "fastsec"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload().startswith("# fastsec")
    assert {"demo", "bench", "metrics", "test", "lint"} <= set(metadata.get_all("Provides-Extra", []))
    scripts = next(built.unpacked.glob("*.dist-info/entry_points.txt")).read_text(encoding="utf-8")
    assert "fastsec = fastsec.cli:main" in scripts


def test_requirements(built: Built) -> None:
    requirements = [Requirement(line) for line in built.metadata.get_all("Requires-Dist", [])]
    always = {entry.name for entry in requirements if entry.marker is None}
    assert always == {"cryptography"}
    (uvloop,) = [entry for entry in requirements if entry.name == "uvloop"]
    assert uvloop.marker is not None
    here = {"platform_python_implementation": "CPython", "sys_platform": "linux", "extra": ""}
    for machine, wanted in (("x86_64", True), ("aarch64", True), ("armv7l", False), ("riscv64", False)):
        assert uvloop.marker.evaluate({**here, "platform_machine": machine}) is wanted
    assert not uvloop.marker.evaluate({**here, "platform_machine": "x86_64", "sys_platform": "win32"})
    assert not uvloop.marker.evaluate({**here, "platform_machine": "x86_64", "platform_python_implementation": "PyPy"})
    for entry in requirements:
        # GPL and LGPL are for tests only, as processes of their own.
        if entry.name.startswith("pyiec61850"):
            assert entry.marker is not None
            assert "test" in str(entry.marker)
    optional = {entry.name for entry in requirements if entry.marker is not None and "extra" in str(entry.marker)}
    assert {"rich", "iec61850", "hat-drivers", "pyperf", "pytest", "hypothesis", "ruff", "mypy"} <= optional
