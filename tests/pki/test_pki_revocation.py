"""What is known about revocation: lists that replace each other, answers, failures, servers at rest, and the policy."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import pki_forge as forge
import pytest
from pki_forge import DAY, NOW, Ca
from test_crl import scope

from fastsec import limits
from fastsec._core.cursor import tlv
from fastsec.errors import ConfigError, HandshakeError
from fastsec.pki import builder
from fastsec.pki.certificate import Certificate
from fastsec.pki.crl import RevocationList
from fastsec.pki.findings import Revocation
from fastsec.pki.path import TrustStore
from fastsec.pki.revocation import (
    Answer,
    Failure,
    RevocationPolicy,
    Revocations,
    Verdict,
    is_public,
    web_address,
)

ROOT = forge.root()
ISSUER = Certificate(ROOT.certificate, ca=True)
OCSP = "http://ocsp.example.org/"
POINT = "http://pki.example.org/root.crl"


def leaf(*, serial: int = 100, responders: Sequence[str] = (OCSP,), points: Sequence[str] = (POINT,)) -> Certificate:
    public = builder.spki(builder.generate_key("p256").public_key())
    extensions = list(forge.leaf_extensions(ROOT, public))
    if responders:
        extensions.append(builder.authority_info_access(*responders))
    if points:
        extensions.append(builder.crl_distribution_points(*points))
    return Certificate(forge.leaf(ROOT, public=public, serial=serial, extensions=extensions))


LEAF = leaf()
KEY = (ISSUER.authority_tag, LEAF.serial)
BY_OCSP = leaf(points=())


def known(*crls: bytes, asking: bool = True, **policy: Any) -> Revocations:
    made = Revocations(crls, RevocationPolicy(**{"ocsp": "needed", "hosts": ("*.example.org",), **policy}))
    if asking:
        made.executor = lambda questions: questions
    return made


def judge(made: Revocations, now: int = NOW, *, subject: Certificate = LEAF, **how: Any) -> Verdict:
    return made.judge(subject, (ISSUER,), now, **{"may_ask": True, **how})


def mnemonics(verdict: Verdict) -> list[str]:
    return [finding.id.removeprefix("IEC62351-9:") for finding in verdict.findings]


def refused(made: Revocations, check: str = "revoked", **how: Any) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        judge(made, **how)
    assert caught.value.check == check
    return caught.value


# --- questions -------------------------------------------------------------------------------------------------------
def test_who_is_asked() -> None:
    (question,) = judge(known()).questions
    assert (question.kind, question.urls, question.key) == ("ocsp", (OCSP,), KEY)
    (question,) = judge(known(responders=("http://own/",))).questions
    assert question.urls == ("http://own/",)
    (question,) = judge(known(ocsp="off")).questions
    assert (question.kind, question.urls) == ("crl", (POINT,))
    # With a current list nobody is asked, unless always.
    assert judge(known(ROOT.crl())) == Verdict()
    (question,) = judge(known(ROOT.crl(), ocsp="always")).questions
    assert question.kind == "ocsp"


def test_nobody_is_asked_without_leave() -> None:
    for made in (known(asking=False), known(hosts=()), known(ocsp="off", hosts=())):
        verdict = judge(made)
        assert not verdict.questions
        assert mnemonics(verdict)[0] == "4.2"
    assert not judge(known(), may_ask=False).questions


def test_a_certificate_without_urls() -> None:
    bare = leaf(responders=(), points=())
    assert mnemonics(judge(known(), subject=bare)) == ["4.2", "2.27", "2.26"]
    ldap = leaf(responders=("ldap://a.example.org/",), points=("ldap://a.example.org/",))
    assert mnemonics(judge(known(), subject=ldap)) == ["4.2"]


def test_what_an_answer_says_holds_until_it_runs_out() -> None:
    made = known()
    assert not made.answered(KEY, Answer(None, 0, NOW, NOW + 1000))
    assert judge(made) == Verdict()
    assert judge(made, NOW + 1000).questions
    assert made.answered(KEY, Answer(1, NOW, NOW + 500, NOW + 2000))  # news
    assert not made.answered(KEY, Answer(1, NOW, NOW + 600, NOW + 2000))
    error = refused(made)
    assert error.step == "OCSP"
    assert dict(error.also[0].params)["CRLReason"] == "keyCompromise"


def test_an_older_answer_does_not_replace_a_newer_one() -> None:
    made = known()
    made.answered(KEY, Answer(4, NOW, NOW, NOW + DAY))
    made.answered(KEY, Answer(None, 0, NOW - 1000, NOW + DAY))
    refused(made)
    made.answered(KEY, Answer(None, 0, NOW + 1000, NOW + DAY))
    assert judge(made) == Verdict()


def test_a_revocation_by_answer_counts_beyond_its_time() -> None:
    made = known()
    made.answered(KEY, Answer(6, NOW, NOW - DAY, NOW - 1000))
    refused(made)
    # A newer list lifts it, an older one does not.
    lifted = known(ROOT.crl(this=NOW - 1000))
    lifted.answered(KEY, Answer(6, NOW, NOW - DAY, NOW - 500))
    assert judge(lifted) == Verdict()
    older = known(ROOT.crl(this=NOW - 2 * DAY))
    older.answered(KEY, Answer(6, NOW, NOW - DAY, NOW - 500))
    refused(older)


def test_answers_and_failures_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_OCSP_CACHE", 3)
    made = known()
    for number in range(10):
        made.answered((b"x", bytes([number])), Answer(None, 0, NOW, NOW + DAY))
        made.failed((b"x", bytes([number])), Failure(5, "", NOW + 1000))
    assert list(made._answers) == list(made._failures) == [(b"x", bytes([n])) for n in (7, 8, 9)]


@pytest.mark.parametrize("number", [Revocation.NO_OCSP, Revocation.OCSP_TIMEOUT, Revocation.OCSP_SIGNATURE])
def test_a_failure_is_told_and_not_tried_again_at_once(number: int) -> None:
    made = known()
    made.failed(KEY, Failure(number, "because", NOW + 10_000))
    (fallback,) = judge(made).questions
    assert fallback.kind == "crl"  # a list may tell what the responder does not
    verdict = judge(made, subject=BY_OCSP)
    assert mnemonics(verdict) == ["4.2", f"4.{number:d}"]
    assert not verdict.questions
    assert judge(made, NOW + 10_000, subject=BY_OCSP).questions
    assert judge(made, NOW - 100 * DAY, subject=BY_OCSP).questions  # the clock was far ahead
    made.answered(KEY, Answer(None, 0, NOW, NOW + DAY))
    assert judge(made) == Verdict()


def test_servers_rest_longer_each_time() -> None:
    made = known()
    pauses = [made.rest(OCSP, NOW) for _ in range(12)]
    assert pauses[:3] == [10_000, 20_000, 40_000]
    assert max(pauses) == limits.OUR_REVOCATION_REST_MAX * 1000
    assert made.is_resting(OCSP, NOW)
    assert mnemonics(judge(made, subject=BY_OCSP)) == ["4.2", "4.5"]
    assert not made.is_resting(OCSP, NOW + limits.OUR_REVOCATION_REST_MAX * 1000)
    assert not made.is_resting(OCSP, NOW - 100 * DAY)
    made.awake(OCSP)
    assert made.rest(OCSP, NOW) == 10_000


def test_servers_that_rest_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_REVOCATION_SERVERS", 2)
    made = known()
    for number in range(5):
        made.rest(f"http://{number}/", NOW)
    assert [made.has_failed(f"http://{number}/") for number in range(5)] == [False, False, False, True, True]


# --- policy ----------------------------------------------------------------------------------------------------------
def test_hard_fail_is_for_handshakes() -> None:
    made = known(hard_fail=True, hosts=())
    error = refused(made, "certificate")
    assert [event.id for event in error.also] == ["IEC62351-9:4.2"]
    assert mnemonics(judge(made, establishing=False)) == ["4.2"]
    asked = known(hard_fail=True)
    assert judge(asked).questions  # not before somebody was asked
    refused(asked, "certificate", may_ask=False)


def test_unknown_is_refused_where_the_policy_says_so() -> None:
    for crls in ((), (ROOT.crl(),)):
        made = known(*crls, ocsp="always", unknown="refuse")
        made.failed(KEY, Failure(Revocation.OCSP_UNKNOWN, "", NOW + 1000))
        refused(made, "certificate", subject=BY_OCSP)
        warned = known(*crls, ocsp="always")
        warned.failed(KEY, Failure(Revocation.OCSP_UNKNOWN, "", NOW + 1000))
        assert "4.7" in mnemonics(judge(warned, subject=BY_OCSP))


def test_the_path_is_judged_too() -> None:
    middle = forge.intermediate(ROOT, serial=50)
    low = Certificate(forge.leaf(middle))
    chain = (Certificate(middle.certificate, ca=True), ISSUER)
    made = Revocations([ROOT.crl(50), middle.crl()])
    with pytest.raises(HandshakeError) as caught:
        made.judge(low, chain, NOW)
    assert caught.value.check == "revoked"
    hard = Revocations([middle.crl()], RevocationPolicy(hard_fail=True))
    with pytest.raises(HandshakeError) as caught:
        hard.judge(low, chain, NOW)
    assert caught.value.check == "path"


@pytest.mark.parametrize(
    "wrong",
    [
        {"ocsp": "maybe"}, {"nonce": "x"}, {"cert_id": "md5"}, {"unknown": "x"}, {"timeout": 60}, {"timeout": 0},
        {"responders": ("https://a/",)}, {"lists": ("file:///etc/passwd",)}, {"lists": ("http://a:0/",)},
    ],
)  # fmt: skip
def test_policies_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RevocationPolicy(**wrong)


@pytest.mark.parametrize(
    ("host", "url", "good"),
    [
        ("a.example.org", "http://a.example.org/x", True),
        ("A.Example.org", "http://a.EXAMPLE.org/x", True),
        ("a.example.org", "http://a.example.org:8080/x", True),
        ("a.example.org:80", "http://a.example.org:8080/x", False),
        ("a.example.org:8080", "http://a.example.org:8080/x", True),
        ("*.example.org", "http://a.b.example.org/x", True),
        ("*.example.org", "http://example.org/x", False),
        ("*.example.org", "http://badexample.org/x", False),
        ("a.example.org", "http://a.example.org.evil/x", False),
        ("a.example.org", "http://evil/a.example.org", False),
        ("a.example.org", "http://a.example.org@evil/", False),
        ("a.example.org", "http://u:p@a.example.org/", False),
        ("a.example.org", "https://a.example.org/", False),
        ("a.example.org", "http://a.example.org\r\nX: y/", False),
        ("*", "http://whoever/", True),
        ("::1", "http://[::1]/", True),
        ("[::1]:99", "http://[::1]:99/", True),
        ("*", "http://[::1/", False),
        ("*", "ldap://a/", False),
    ],
)
def test_hosts(host: str, url: str, good: bool) -> None:
    assert RevocationPolicy(hosts=(host,)).allows(url) == good


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("192.0.2.1", True), ("10.1.2.3", True), ("2001:db8::1", True), ("127.0.0.1", False), ("127.9.9.9", False),
        ("169.254.169.254", False), ("0.0.0.0", False), ("224.0.0.1", False), ("::1", False), ("fe80::1%eth0", False),
        ("::ffff:127.0.0.1", False), ("::ffff:169.254.1.1", False), ("::", False), ("ff02::1", False), ("x", False),
    ],
)  # fmt: skip
def test_addresses_behind_a_pattern(address: str, good: bool) -> None:
    assert is_public(address) == good


def test_web_addresses() -> None:
    assert web_address("http://a/b") == ("a", 80)
    assert web_address("HTTP://A:81/b?c") == ("a", 81)
    assert web_address("http://a:99999/") is None
    assert web_address("//a/") is None


# --- lists that replace each other -----------------------------------------------------------------------------------
def crl(*serials: int, number: int = 1, this: int = NOW - 1000, ca: Ca = ROOT, **more: Any) -> RevocationList:
    extra = (*more.pop("extra", ()), builder.crl_number(number))
    return RevocationList(
        builder.revocation_list(
            issuer=ca.name,
            this_update_ms=this,
            next_update_ms=NOW + DAY,
            revoked=[(serial, this) for serial in serials],
            extensions=(builder.authority_key_identifier(ca.identifier), *extra),
            key=ca.key,
        )
    )


def holding() -> Revocations:
    made = Revocations()
    TrustStore([ROOT.certificate], revocation=made)  # its anchors are known from then on
    return made


def test_a_newer_list_replaces_an_older_one_and_never_the_other_way_round() -> None:
    made = holding()
    assert made.replace("s", [crl(100, number=5)])
    refused(made)
    assert not made.replace("s", [crl(number=4)])
    assert not made.replace("s", [crl(number=9, this=NOW - 2000)])
    refused(made)
    assert made.replace("s", [crl(number=6)])
    assert judge(made) == Verdict()
    assert len(made.lists()) == 1
    (same,) = made.lists()
    assert not made.replace("s", [RevocationList(same._der)])  # nothing new: nobody has to look again


def test_a_forged_list_never_replaces_a_genuine_one() -> None:
    other = forge.root()  # a namesake with another key
    made = holding()
    made.replace("s", [crl(100)])
    key_id = (builder.authority_key_identifier(ROOT.identifier),)
    forged = RevocationList(
        builder.revocation_list(
            issuer=ROOT.name, this_update_ms=NOW, next_update_ms=NOW + DAY, revoked=(), extensions=key_id, key=other.key
        )
    )
    assert not made.replace("s", [forged], only_genuine=True)
    refused(made)
    made.replace("s", [forged])  # a file: it is kept beside the genuine one
    refused(made)
    assert len(made.lists()) == 2
    made.replace("s", [crl(number=7, this=NOW)])
    assert judge(made) == Verdict()
    assert len(made.lists()) == 1


def test_lists_of_other_scopes_and_sources_stand_side_by_side() -> None:
    made = holding()
    made.replace("s", [crl(1), crl(2, extra=[scope(b"\x81\x01\xff")]), crl(3, ca=forge.root("another"))])
    made.replace("t", [crl(4)])
    assert len(made.lists()) == 4
    made.drop("s")
    made.drop("no such")
    assert len(made.lists()) == 1
    assert made.source("t")[0].serials == {b"\x04"}


def test_a_url_that_serves_another_list_keeps_the_one_before() -> None:
    made = holding()
    made.replace("u", [crl(100)], only_genuine=True)
    made.replace("u", [crl(extra=[scope(b"\x82\x01\xff")])], only_genuine=True)
    refused(made)


def test_a_list_whose_issuer_is_not_known_yet() -> None:
    """An intermediate's: it stands there unverified until a peer brings the intermediate."""
    middle = forge.intermediate(ROOT)
    low = Certificate(forge.leaf(middle, serial=9))
    made = holding()
    assert made.replace("u", [crl(9, ca=middle)])
    with pytest.raises(HandshakeError):
        made.judge(low, (Certificate(middle.certificate, ca=True), ISSUER), NOW)


def test_issuers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_REVOCATION_ISSUERS", 2)
    made = Revocations()
    authorities = [Certificate(forge.root(f"r{n}").certificate, ca=True) for n in range(4)]
    for issuer in (*authorities, authorities[-1]):
        made.know(issuer)
    assert [bool(made.issuers(issuer.subject)) for issuer in authorities] == [False, False, True, True]


def test_lists_of_one_distribution_point() -> None:
    point = tlv(0xA0, tlv(0xA0, tlv(0x86, POINT.encode())))
    made = holding()
    made.replace("u", [crl(extra=[scope(point)])])
    assert judge(made) == Verdict()
    elsewhere = leaf(points=("http://pki.example.org/other.crl",))
    assert mnemonics(judge(made, subject=elsewhere)) == ["4.2"]
    made.replace("u", [crl(100, number=2, extra=[scope(point)])])
    refused(made, subject=elsewhere)  # the authority says so, wherever


def test_a_large_list_is_not_kept_twice() -> None:
    """No tuple, set or second copy of its octets is left of the entries."""
    big = builder.revocation_list(
        issuer=ROOT.name, this_update_ms=NOW, next_update_ms=None,
        revoked=[(number, NOW) for number in range(2**70, 2**70 + 5000)], extensions=(), key=ROOT.key,
    )  # fmt: skip
    made = holding()
    gc.collect()
    before = len(gc.get_objects())
    made.replace("s", [RevocationList(big)])
    gc.collect()
    assert len(gc.get_objects()) - before < 100
