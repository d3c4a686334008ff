"""``fastsec pki``: what it prints, leaves behind and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from pki_forge import OSI

from fastsec.cli.pki import main
from fastsec.instant import now
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import load_certificates, load_credential, load_crls
from fastsec.pki.path import TrustStore


def test_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(tmp_path / "pki")
    assert main(["init", directory]) == 0
    assert "TRIAL" in capsys.readouterr().out
    assert main(["issue", directory, "ied1", "--osi", str(OSI), "--tls", "localhost", "--tls", "127.0.0.1"]) == 0
    out = capsys.readouterr().out
    assert "TRIAL" in out
    assert all(f"ied1.{kind}" in out for kind in ("e2e.pem", "e2e.key", "tls.pem", "tls.key"))
    credential = load_credential(tmp_path / "pki/ied1.e2e.pem", tmp_path / "pki/ied1.e2e.key")
    assert credential.name == OSI

    def trust() -> TrustStore:
        return TrustStore(load_certificates(tmp_path / "pki/root.pem"), load_crls(tmp_path / "pki/root.crl.pem"))

    assert trust().validate(credential.certificate, (), now().utc_ms).warnings == ()
    assert main(["renew-crl", directory, "--crl-days", "2"]) == 0
    assert trust().validate(credential.certificate, (), now().utc_ms).warnings == ()
    assert main(["revoke", directory, "ied1"]) == 0
    assert "ied1.e2e.pem" in capsys.readouterr().out
    with pytest.raises(Exception, match="revoked"):
        trust().validate(credential.certificate, (), now().utc_ms)


@pytest.mark.parametrize("key", ["p256", "brainpool", "rsa2048"])
def test_key_types_and_validity(tmp_path: Path, key: str) -> None:
    assert main(["init", str(tmp_path), "--key", key, "--days", "10"]) == 0
    assert main(["issue", str(tmp_path), "a", "--osi", str(OSI), "--key", key, "--days", "3"]) == 0
    leaf = Certificate(load_certificates(tmp_path / "a.e2e.pem")[0])
    assert 0 <= leaf.not_after_ms - now().utc_ms - 3 * 86_400_000 + 60_000 < 61_000
    assert {"p256": "secp256r1", "brainpool": "brainpoolP256r1", "rsa2048": "rsa"}[key] == leaf.public_key.kind


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "ACTION"),
        (["bogus"], 2, "bogus"),
        (["issue", "DIR", "a"], 1, "--osi"),
        (["issue", "DIR", "a", "--osi", "1.2"], 1, "AP-TITLE:AE-QUALIFIER"),
        (["issue", "DIR", "../a", "--osi", "1.2:3"], 1, "name"),
        (["issue", "DIR", "a", "--osi", "1.2:3", "--days", "0"], 1, "days"),
        (["issue", "DIR/none", "a", "--osi", "1.2:3"], 1, "fastsec pki init"),
        (["issue", "DIR", "a", "--key", "rsa1024"], 2, "rsa1024"),
        (["init", "DIR"], 1, "already"),
        (["init", "/proc/none"], 1, "/proc/none"),
        (["revoke", "DIR", "nobody"], 1, "nobody"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, words: str
) -> None:
    assert main(["init", str(tmp_path)]) == 0
    capsys.readouterr()
    assert (
        main(
            [
                argument.replace("DIR", str(tmp_path)) if argument.startswith("DIR") else argument
                for argument in arguments
            ]
        )
        == status
    )
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["issue", "--help"]) == 0
    assert "--osi" in capsys.readouterr().out
