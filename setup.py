"""Build of the Cython extensions; everything else stands in pyproject.toml.

Environment switches:
  FASTSEC_DEBUG=1      bounds checks, line tracing, assertions, -O0 -g
  FASTSEC_SANITIZE=1   AddressSanitizer and UndefinedBehaviorSanitizer, with the assertions
  FASTSEC_COVERAGE=1   counts of every branch for gcov, -O0 (see scripts/coverage_report.py)
  FASTSEC_FUZZ=1       clang, edges reported to libFuzzer, with the assertions; also together with SANITIZE
  FASTSEC_ONLY=a,b     build only these _core modules (for work on one of them)
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("FASTSEC_DEBUG") == "1"
SANITIZE = os.environ.get("FASTSEC_SANITIZE") == "1"
COVERAGE = os.environ.get("FASTSEC_COVERAGE") == "1"
FUZZ = os.environ.get("FASTSEC_FUZZ") == "1"
ONLY = {name for name in os.environ.get("FASTSEC_ONLY", "").split(",") if name}

compile_args = ["-std=c11", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
link_args = []
macros = [("OPENSSL_API_COMPAT", "30000"), ("OPENSSL_NO_DEPRECATED", None)]
if not (DEBUG or SANITIZE):
    macros += [("CYTHON_WITHOUT_ASSERTIONS", "1")]
    compile_args += ["-Wno-unused-variable", "-Wno-unused-function"]  # what Cython made for the assertions
if COVERAGE:
    # Atomic counters: the public-key work runs in threads without the GIL.
    compile_args += ["-O0", "--coverage", "-fprofile-update=atomic"]
    link_args += ["--coverage"]
elif DEBUG:
    compile_args += ["-O0", "-g"]
    macros += [("CYTHON_TRACE_NOGIL", "1")]
else:
    compile_args += ["-O3", "-fvisibility=hidden"]
if SANITIZE:
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g"]
    compile_args += flags
    link_args += flags
if FUZZ:
    os.environ.setdefault("CC", "clang")
    os.environ.setdefault("LDSHARED", "clang -shared")
    # libFuzzer and the sanitizers come with atheris and are in the process before the extensions.
    compile_args += ["-fsanitize=fuzzer-no-link", "-g", "-UCYTHON_WITHOUT_ASSERTIONS"]
    link_args = []

directives = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": DEBUG,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
    "linetrace": DEBUG,
    "profile": DEBUG,
}

root = Path(__file__).parent
extensions = [
    Extension(
        f"fastsec._core.{path.stem}",
        [str(path.relative_to(root))],
        libraries=["crypto"],
        define_macros=macros,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for path in sorted((root / "src/fastsec/_core").glob("*.pyx"))
    if not ONLY or path.stem in ONLY
]

# Only commands that compile need the C files; metadata and sdist take the .pyx as they are.
compiling = not {"sdist", "egg_info", "dist_info"} & set(sys.argv[1:])

# Generated C goes below build/, one folder per build kind, so that it can neither slip into the sdist nor be
# mistaken for the other kind's.
kind = "sanitize" if SANITIZE else "coverage" if COVERAGE else "debug" if DEBUG else "release"
kind = f"fuzz-{kind}" if FUZZ else kind
jobs = os.cpu_count() or 1
setup(
    ext_modules=cythonize(
        extensions,
        compiler_directives=directives,
        build_dir=f"build/cython-{kind}",
        include_path=["src"],
        nthreads=jobs if len(extensions) > 1 else 0,
    )
    if compiling
    else [],
    options={"build_ext": {"parallel": jobs}},
)
