"""Extensions that only tests need: built below build/native on first use, never shipped.

``build("ctmark")`` gives the folder to put on PYTHONPATH. They cimport ``fastsec._core`` and must be younger than it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILT = ROOT / "build" / "native"
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

SETUP = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
source, name, include, work = sys.argv[1:5]
sys.argv[1:] = ["-q", "build_ext", "--build-lib", work, "--build-temp", work]
flags = ["-std=gnu11", "-O1", "-g", "-w"]
extension = Extension(name, [source], libraries=["crypto"], extra_compile_args=flags)
setup(name="native", packages=[], py_modules=[], ext_modules=cythonize(
    [extension], include_path=[include], build_dir=work, quiet=True, force=True,
    compiler_directives={"language_level": 3, "cdivision": True, "boundscheck": False, "wraparound": False}))
"""


def build(name: str) -> Path:
    """Build ``tests/native/<name>.pyx`` unless that has been done since it or a .pxd changed. Returns its folder."""
    source = HERE / f"{name}.pyx"
    needs = [source, Path(__file__), *(ROOT / "src/fastsec/_core").glob("*.pxd")]
    target = BUILT / f"{name}{SUFFIX}"
    BUILT.mkdir(parents=True, exist_ok=True)
    with open(BUILT / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists() or target.stat().st_mtime < max(path.stat().st_mtime for path in needs):
            work = BUILT / f"{name}.work"
            subprocess.run(
                [sys.executable, "-c", SETUP, str(source.relative_to(ROOT)), name, "src", str(work.relative_to(ROOT))],
                check=True, cwd=ROOT, env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
            )  # fmt: skip
            os.replace(work / target.name, target)
    return BUILT


def core_with_faults(name: str, faults: dict[str, tuple[tuple[str, str], ...]]) -> Path:
    """A copy of the package in which some _core modules have deliberate faults, for controls. Returns its ``src``.

    Arguments:
        name: of the copy.
        faults: module to replacements, each of a text that occurs once.
    """
    tree = ROOT / "build" / f"faulty-{name}"
    kept = tree / "kept"
    kept.mkdir(parents=True, exist_ok=True)
    core = tree / "src/fastsec/_core"
    headers = "".join(path.read_text() for path in sorted((ROOT / "src/fastsec/_core").glob("*.pxd")))
    with open(tree / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["cp", "-ru", "setup.py", "pyproject.toml", "README.md", "LICENSE", "src", str(tree)],
                       check=True, cwd=ROOT)  # fmt: skip
        wanted = {}
        for module, changes in faults.items():
            text = (ROOT / f"src/fastsec/_core/{module}.pyx").read_text()
            for old, new in changes:
                if text.count(old) != 1:
                    raise AssertionError(f"{module}.pyx no longer has: {old}")
                text = text.replace(old, new)
            (core / f"{module}.pyx").write_text(text)
            mark = kept / f"{module}.built"
            if not mark.exists() or mark.read_text() != text + headers:
                wanted[module] = mark, text + headers
        if wanted:
            subprocess.run(
                [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"],
                check=True, cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
                | {"FASTSEC_ONLY": ",".join(wanted), "CFLAGS": "-O1 -w"},
            )  # fmt: skip
        for module in faults:
            if module in wanted:
                os.replace(core / f"{module}{SUFFIX}", kept / f"{module}{SUFFIX}")
                mark, text = wanted[module]
                mark.write_text(text)
            shutil.copy(kept / f"{module}{SUFFIX}", core)
    return tree / "src"
