"""scripts/system-packages.sh: what is missing is installed by root, and named in one line to everybody else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "system-packages.sh"
ALL = "cc python3 tshark stunnel valgrind clang maude spin softhsm2-util openssl rsyslogd"

INSTALLS = """\
case "$*" in *tshark*) echo '#!/bin/sh' > "$BIN/tshark"; chmod 755 "$BIN/tshark" ;; esac"""


class Machine:
    """A PATH of fakes: each command succeeds; ``apt-get`` notes its arguments."""

    def __init__(self, directory: Path, *, commands: str = ALL, user: int, apt: str = "") -> None:
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.notes = directory / "apt"
        for name in commands.split():
            self.put(name, "")
        self.put("id", f"echo {user}")
        self.put("apt-get", f'BIN={self.bin}; echo "$*" >> {self.notes}\n{apt}')

    def put(self, name: str, script: str) -> None:
        """Make the command ``name``."""
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script where there are these commands only, and those of the shell itself."""
        for name in ("chmod", "cat", "sed"):
            real = next(folder / name for folder in map(Path, ("/usr/bin", "/bin")) if (folder / name).exists())
            if not (self.bin / name).exists():
                (self.bin / name).symlink_to(real)
        return subprocess.run(
            ["/bin/sh", str(SCRIPT), *arguments],
            env={"PATH": str(self.bin)}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    @property
    def installed(self) -> list[str]:
        """What apt-get was asked for."""
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.mark.parametrize("what", ["build", "test", "bench", "fuzz"])
def test_nothing_is_done_if_nothing_is_missing(tmp_path: Path, what: str) -> None:
    machine = Machine(tmp_path, user=0)
    done = machine.run(what)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.installed == []


def test_root_installs_what_is_missing(tmp_path: Path) -> None:
    machine = Machine(
        tmp_path, commands="cc python3 stunnel valgrind maude spin softhsm2-util openssl rsyslogd", user=0, apt=INSTALLS
    )
    assert machine.run("build").returncode == 0
    assert machine.installed == []
    done = machine.run("test")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "installing system packages: tshark\n"
    assert machine.installed == ["update -q", "install -y -q --no-install-recommends tshark"]


def test_it_says_so_if_the_packages_did_not_help(tmp_path: Path) -> None:
    machine = Machine(tmp_path, commands="cc python3 tshark stunnel", user=0)
    done = machine.run("bench")
    assert done.returncode == 1
    assert "still not found for python3: valgrind" in done.stderr


def test_a_failing_apt_is_an_error(tmp_path: Path) -> None:
    machine = Machine(tmp_path, commands="cc python3", user=0, apt="exit 100")
    assert machine.run("test").returncode != 0
    assert machine.installed == ["update -q"]


def test_others_are_told_in_one_line(tmp_path: Path) -> None:
    machine = Machine(tmp_path, commands="cc stunnel", user=1000)
    done = machine.run("bench")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("sudo apt-get install -y --no-install-recommends python3 python3-venv python3-dev valgrind")
    assert machine.installed == []


def test_the_list_is_complete(tmp_path: Path) -> None:
    machine = Machine(tmp_path, commands="", user=1000)
    listed = set(machine.run("list").stdout.split())
    for what in ("build", "test", "bench"):
        assert set(machine.run(what).stderr.split("--no-install-recommends")[1].split()) <= listed


def test_wrong_use_is_explained(tmp_path: Path) -> None:
    done = Machine(tmp_path, user=0).run("everything")
    assert done.returncode == 2
    assert "build|test|bench" in done.stdout
