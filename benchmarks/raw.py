"""Builds the raw-libcrypto baseline once and imports it. It is part of the benchmarks, not of the package."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent


def load() -> ModuleType:
    """The compiled module ``_raw``; built below build/bench when its source is newer.

    Errors:
        ImportError: Cython, a C compiler or the OpenSSL headers are missing.
    """
    target = HERE.parent / "build" / "bench"
    library = target / f"_raw{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not library.exists() or library.stat().st_mtime < (HERE / "_raw.pyx").stat().st_mtime:
        _build(target)
    spec = importlib.util.spec_from_file_location("_raw", library)
    if spec is None or spec.loader is None:
        raise ImportError("cannot load the raw-libcrypto baseline")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _build(target: Path) -> None:
    try:
        from Cython.Build import cythonize
        from setuptools import Distribution, Extension
        from setuptools.command.build_ext import build_ext
    except ImportError as error:
        raise ImportError("raw-libcrypto needs Cython and setuptools: pip install 'fastsec[bench]'") from error
    print("building the raw-libcrypto baseline", file=sys.stderr)
    target.mkdir(parents=True, exist_ok=True)
    source = shutil.copy(HERE / "_raw.pyx", target)
    extension = Extension("_raw", [os.path.relpath(source)], libraries=["crypto"], extra_compile_args=["-O3"])
    distribution = Distribution({"ext_modules": cythonize([extension], quiet=True)})
    command = build_ext(distribution)
    command.build_lib = str(target)
    command.build_temp = str(target)
    command.ensure_finalized()
    try:
        command.run()
    except Exception as error:
        raise ImportError(f"raw-libcrypto did not build: {type(error).__name__}") from error
