"""No branch and no address depends on a key, on a computed ICV or on a plaintext whose ICV has not verified.

valgrind's memcheck is the tracer: secrets are marked as undefined memory (tests/native/ctmark.pyx says what becomes
public, and where), so whatever branches on them is an error of memcheck. It traces libcrypto as well.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import native

pytestmark = [
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind"),
    pytest.mark.timeout(600),
]
SCENARIO = Path(__file__).with_name("scenario.py")


def trace(source: Path, log: Path, *options: str) -> tuple[dict[str, int], dict[str, int], str]:
    """Run the scenario. Returns errors of each step, errors of each control, memcheck's log."""
    run = subprocess.run(
        ["valgrind", "--tool=memcheck", "--leak-check=no", "--error-limit=no", f"--log-file={log}",
         sys.executable, "-P", str(SCENARIO), *options],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": f"{source}:{native.build('ctmark')}", "PYTHONMALLOC": "malloc"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr + log.read_text()[-3000:]
    found = json.loads(run.stdout)
    return found["steps"], found["controls"], re.sub(r"(?m)^==\d+== ?", "", log.read_text())


def stack(log: str, step: str) -> str:
    """What memcheck wrote in one step."""
    return log.partition(f"STEP {step}\n")[2].partition("STEP ")[0]


def test_nothing_depends_on_a_secret_but_the_verdict(tmp_path: Path) -> None:
    steps, controls, log = trace(native.ROOT / "src", tmp_path / "log", "controls")
    assert len(steps) >= 80
    wrong = [step for step, errors in steps.items() if errors]
    assert not wrong, stack(log, wrong[0])
    # The secrets do arrive at the comparison: a verdict that is not made public is reported, in every mode.
    verdicts = [errors for step, errors in controls.items() if step.endswith("verdict kept secret")]
    assert len(verdicts) == 8
    assert all(verdicts)


def test_an_early_exit_and_a_look_at_unverified_padding_are_reported(tmp_path: Path) -> None:
    """Control: the same with three faults in the code."""
    verify = """            if not self.verify(&x):
                raise IntegrityError("ICV is wrong", check="icv", step=f"{kind}.auth.icv")
"""
    decrypt = """            appl = self.decrypt(&x) if x.encrypted else x.data[:x.data_size]
"""
    source = native.core_with_faults("comparison", {
        "opening": (
            ("CRYPTO_memcmp(mac, x.icv", "memcmp(mac, x.icv"),
            ("CRYPTO_memcmp(mac, auth + ", "memcmp(mac, auth + "),
            (verify + decrypt, decrypt + verify),
        ),
        "dh": (("CRYPTO_memcmp(out, modp_p_minus_1, MODP_SIZE)", "memcmp(out, modp_p_minus_1, MODP_SIZE)"),),
    })  # fmt: skip
    steps, _, log = trace(source, tmp_path / "log")
    for step in ("hmac: first octet of the ICV wrong", "hmac: last octet of the ICV wrong", "hmac: channel refuses"):
        assert steps[step] > 0
    assert "OpenGuard_" in stack(log, "hmac: first octet of the ICV wrong").partition(" by ")[0]
    for kind in ("cbc128-hmac", "cbc256-gmac256-13"):
        assert steps[f"{kind}: whole ICV wrong"] > 0  # counted each time, written once
    assert "OpenGuard_decrypt" in stack(log, "cbc128-hmac: first octet of the ICV wrong")
    assert steps["group 14: Z and HKDF"] > 0
    # What has no fault is not reported.
    assert not any(errors for step, errors in steps.items() if step.startswith(("gcm", "gmac", "group 23")))
