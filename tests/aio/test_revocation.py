"""Revocation end to end: real associations, both sides checking, responders good and bad, all on loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from revocation_world import HOUR, Http, OpenSsl, Pki, http, pem, policy
from world import Recorder, pair, until

from fastsec import limits
from fastsec.aio import revocation
from fastsec.aio.revocation import RevocationService
from fastsec.errors import FastsecError
from fastsec.instant import now
from fastsec.pki import builder, oids
from fastsec.pki.certificate import Certificate
from ocsp_forge import UNKNOWN, Responder, revoked

FIND = "IEC62351-9:4."
REVOKED, NO_CRL, CRL_EXPIRED, CRL_SIGNATURE = (f"{FIND}{n}" for n in (1, 2, 3, 4))
NO_OCSP, TIMEOUT, OCSP_UNKNOWN, OCSP_EXPIRED, OCSP_SIGNATURE = (f"{FIND}{n}" for n in (5, 6, 7, 8, 9))
HALF = {NO_CRL}  # where no list is configured this is said besides


def found(events: list[str]) -> set[str]:
    """The events of certificates and revocation, but that there is no list."""
    return {event for event in events if event.startswith("IEC62351-9:")} - HALF


async def opens(both, **more) -> None:
    async with pair(None, None, **both.configs, **more) as two:
        await two.opened()


async def refused(both) -> FastsecError:
    async with pair(None, None, **both.configs) as two:
        with pytest.raises(FastsecError) as caught:
            await asyncio.wait_for(two.opened(), 30)
        return caught.value


# --- openssl as the responder ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", ["p256", "brainpool"])
def test_openssl_says_good(run, tmp_path, key: str) -> None:
    async def main() -> None:
        pki = Pki(key)
        async with Http().serving() as web:
            responder = web.answers["/ocsp"] = OpenSsl(tmp_path / "o", pki.authority)
            with RevocationService(policy(nonce="required")) as service:
                both = pki.both(service, responders=(f"{web.url}/ocsp",))
                for config in (both.client, both.server):
                    responder.knows(config.credential.certificate)
                await opens(both)
                assert not found(both.client_events) | found(both.server_events)
                assert not HALF & {*both.client_events, *both.server_events}
                assert len(web.hits) == 2  # each asked about the other
                await opens(both)
                assert len(web.hits) == 2  # the answers are kept

    run(main())


@pytest.mark.event("IEC62351-9:4.1", "IEC62351-4:1.7")
def test_openssl_says_revoked(run, tmp_path) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            responder = web.answers["/ocsp"] = OpenSsl(tmp_path / "o", pki.authority)
            with RevocationService(policy()) as service:
                both = pki.both(service, responders=(f"{web.url}/ocsp",))
                responder.knows(both.server.credential.certificate)
                responder.knows(both.client.credential.certificate, "R", "keyCompromise")
                reasons = []
                sink = lambda event: reasons.append((event.id, dict(event.params).get("CRLReason")))  # noqa: E731
                both.server = dataclasses.replace(both.server, sink=sink)
                await refused(both)
                assert (REVOKED, "keyCompromise") in reasons
                # The server is asked about first by the client, which is told nothing of why.
                assert REVOKED not in both.client_events

    run(main())


@pytest.mark.event("IEC62351-9:4.1", "IEC62351-4:2.6")
def test_a_client_refuses_a_revoked_server(run, tmp_path) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            responder = web.answers["/ocsp"] = OpenSsl(tmp_path / "o", pki.authority)
            with RevocationService(policy()) as service:
                both = pki.both(service, responders=(f"{web.url}/ocsp",))
                responder.knows(both.client.credential.certificate)
                responder.knows(both.server.credential.certificate, "R")
                error = await refused(both)
                assert getattr(error, "check", "") == "revoked"
                assert REVOKED in both.client_events

    run(main())


@pytest.mark.event("IEC62351-9:4.7")
def test_openssl_does_not_know(run, tmp_path) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            responder = web.answers["/ocsp"] = OpenSsl(tmp_path / "o", pki.authority)
            with RevocationService(policy()) as service:
                both = pki.both(service, responders=(f"{web.url}/ocsp",))
                responder.knows(both.server.credential.certificate)
                await opens(both)
                assert found(both.server_events) == {OCSP_UNKNOWN}
                assert not found(both.client_events)
            with RevocationService(policy(unknown="refuse")) as service:
                strict = pki.both(service, responders=(f"{web.url}/ocsp",))
                responder.knows(strict.server.credential.certificate)
                await refused(strict)
                assert {OCSP_UNKNOWN, "IEC62351-4:1.6"} <= set(strict.server_events)

    run(main())


@pytest.mark.event("IEC62351-9:4.8")
def test_an_answer_of_openssl_that_has_run_out(run, tmp_path, monkeypatch) -> None:
    """One minute it is good for, and for all of us it is an hour later: whoever records answers has nothing of it."""

    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            responder = OpenSsl(tmp_path / "o", pki.authority, minutes=1)
            web.answers["/ocsp"] = responder
            with RevocationService(policy()) as service:
                both = pki.both(service, responders=(f"{web.url}/ocsp",))
                for config in (both.client, both.server):
                    responder.knows(config.credential.certificate)
                wall = time.time_ns
                monkeypatch.setattr(time, "time_ns", lambda: wall() + HOUR * 1_000_000)
                await opens(both)
                assert found(both.server_events) == found(both.client_events) == {OCSP_EXPIRED}

    run(main())


# --- responders that lie, or are none --------------------------------------------------------------------------------
ODD = {
    "forged": (lambda pki: pki.answers(key=ec.generate_private_key(ec.SECP256R1())), OCSP_SIGNATURE),
    "another nonce": (lambda pki: pki.answers(nonce=bytes(32)), OCSP_SIGNATURE),
    "unknown": (lambda pki: pki.answers(status=UNKNOWN), OCSP_UNKNOWN),
    "another certificate": (lambda pki: pki.answers(about=b"\x01"), OCSP_UNKNOWN),
    "expired": (lambda pki: pki.answers(delta_ms=-5 * HOUR), OCSP_EXPIRED),
    "from the future": (lambda pki: pki.answers(delta_ms=HOUR), OCSP_EXPIRED),
    "try later": (lambda _: lambda _: b"\x30\x03\x0a\x01\x03", NO_OCSP),
    "garbage": (lambda _: lambda _: b"\x30\x80garbage", NO_OCSP),
    "no HTTP": (lambda _: lambda _: b"HTTP/9 is nice\r\n\r\n", NO_OCSP),
    "not found": (lambda _: lambda _: http(b"", "404 Not Found"), NO_OCSP),
    "huge": (lambda _: lambda _: http(bytes(limits.OUR_OCSP_RESPONSE_MAX + 1)), NO_OCSP),
    "huge in one chunk": (
        lambda _: lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n" + bytes(1000),
        NO_OCSP,
    ),
    "cut short": (lambda _: lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", NO_OCSP),
    "redirect": (lambda _: lambda _: http(b"", "302 Found", "Location: http://127.0.0.1:1/"), NO_OCSP),
}


@pytest.mark.event("IEC62351-9:4.5", "IEC62351-9:4.7", "IEC62351-9:4.8", "IEC62351-9:4.9")
def test_answers_that_say_nothing_warn_or_refuse(run) -> None:
    """Each cause has its own event, once per side; with hard_fail each refuses."""

    async def main() -> None:
        async with Http().serving() as web:
            for index, (name, (make, event)) in enumerate(ODD.items()):
                pki = Pki()
                web.answers[f"/{index}"] = make(pki)
                with RevocationService(policy()) as service:
                    both = pki.both(service, responders=(f"{web.url}/{index}",))
                    await opens(both)
                    for events in (both.client_events, both.server_events):
                        assert [e for e in events if e in found(events)] == [event], name
                        assert events.count(NO_CRL) == 1
                    assert web.hits.count(f"/{index}") <= 2
                with RevocationService(policy(hard_fail=True)) as service:
                    both = pki.both(service, responders=(f"{web.url}/{index}",))
                    await refused(both)
                    assert {event, "IEC62351-4:1.6"} <= set(both.server_events), name

    run(main())


@pytest.mark.event("IEC62351-9:2.25", "IEC62351-9:4.9")
def test_a_peer_that_vouches_for_itself(run) -> None:
    """Its own certificate is of the right authority, but not for OCSP signing."""

    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            with RevocationService(policy()) as service:
                both = pki.both(service, responders=(f"{web.url}/self",))
                issued = pki.authority.issue_e2e("liar", both.client.credential.name)
                subject = Certificate(issued.certificate).subject
                liar = Responder(subject, issued.key, (issued.certificate,))
                web.answers["/self"] = pki.answers(responder=liar)
                await opens(both)
                assert found(both.server_events) == {OCSP_SIGNATURE, "IEC62351-9:2.25"}

    run(main())


@pytest.mark.event("IEC62351-9:4.9")
@pytest.mark.parametrize("no_check", [False, True])
def test_a_delegate_whose_certificate_is_revoked(run, no_check: bool) -> None:
    """A list tells; unless the authority says that it need not be asked about (RFC 6960 4.2.2.2.1)."""

    async def main() -> None:
        pki = Pki()
        more = (builder.Extension(oids.OCSP_NO_CHECK, b"\x05\x00"),) if no_check else ()
        name = builder.text_name(cn="responder")
        issued = pki.authority.issue("d.ocsp", name, (builder.extended_key_usage(oids.OCSP_SIGNING), *more), "p256", 30)
        pki.authority.utc_ms = now().utc_ms - 40 * 24 * HOUR  # the list has run out, so responders are asked
        pki.authority.revoke(issued.certificate)
        async with Http().serving() as web:
            web.answers["/d"] = pki.answers(responder=Responder(name, issued.key, (issued.certificate,)))
            with RevocationService(policy()) as service:
                service.known.give([pki.authority.crl])
                pki.authority.utc_ms = now().utc_ms
                both = pki.both(service, responders=(f"{web.url}/d",))
                await opens(both)
                assert (OCSP_SIGNATURE in both.server_events) == (not no_check)
                if no_check:  # what the marker promises, from somewhere else
                    web.answers["/d"] = pki.answers(nonce=bytes(32))
                    other = pki.both(service, responders=(f"{web.url}/d",))
                    await opens(other)

    run(main())


def dead_port() -> int:
    """Nobody listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.event("IEC62351-9:4.5")
def test_a_responder_that_refuses_connections_is_left_alone(run) -> None:
    async def main() -> None:
        pki = Pki()
        url = f"http://127.0.0.1:{dead_port()}/"
        with RevocationService(policy()) as service:
            both = pki.both(service, responders=(url,))
            await opens(both)
            assert service.known.is_resting(url, now().utc_ms)
            assert found(both.client_events) == found(both.server_events) == {NO_OCSP}

    run(main())


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def dripping(writer: asyncio.StreamWriter) -> None:
    """An octet at a time: each is progress, and all of them together are no answer."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"\x30")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.event("IEC62351-9:4.6")
@pytest.mark.parametrize("manner", [silent, dripping])
def test_a_slow_responder_does_not_outlive_the_deadline(run, manner) -> None:
    """And it is one question for many handshakes, which all go on; the next ones do not even ask."""

    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.raw["/slow"] = manner
            with RevocationService(policy(timeout=0.4)) as service:
                both = pki.both(service, responders=(f"{web.url}/slow",))
                await asyncio.gather(*(opens(both) for _ in range(8)))
                assert len(web.hits) <= 2
                assert TIMEOUT in both.server_events + both.client_events
                hits = len(web.hits)
                await opens(both)
                assert len(web.hits) == hits

    run(main())


@pytest.mark.event("IEC62351-9:4.5")
def test_questions_are_bounded(run, monkeypatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(limits, "OUR_OCSP_AT_ONCE", 1)
        pki = Pki()
        async with Http().serving() as web:
            web.raw["/slow"] = silent
            with RevocationService(policy(timeout=2)) as service:
                url = (f"{web.url}/slow",)
                pairs = [pki.both(service, responders=url) for _ in range(4)]
                await asyncio.gather(*(opens(both) for both in pairs))
                assert len(web.hits) == 1
                assert any(NO_OCSP in both.server_events for both in pairs)

    run(main())


def test_other_work_goes_on_while_a_responder_is_waited_for(run) -> None:
    """The few worker threads are not occupied: other associations are made meanwhile, though many wait."""

    async def main() -> None:
        pki = Pki()
        gate = asyncio.Event()

        async def slow(request: bytes) -> bytes:
            await gate.wait()
            return pki.answers()(request)

        async with Http().serving() as web:
            web.answers["/slow"] = slow
            with RevocationService(policy(timeout=10)) as service:
                waiting = [pki.both(service, responders=(f"{web.url}/slow",)) for _ in range(8)]
                tasks = [asyncio.create_task(opens(both)) for both in waiting]
                await until(lambda: len(web.hits) >= 8, 30)
                others = pki.both(service)
                await opens(others)
                assert not any(task.done() for task in tasks)
                gate.set()
                await asyncio.gather(*tasks)
                assert not any(found(both.server_events) for both in waiting)

    run(main())


def test_an_end_while_a_responder_is_waited_for(run) -> None:
    """Nothing hangs and nobody is told twice; the keys of the client's half are forgotten at once."""

    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.raw["/slow"] = silent
            with RevocationService(policy(timeout=2)) as service:
                both = pki.both(service, responders=(f"{web.url}/slow",))
                async with pair(None, None, **both.configs) as two:
                    await until(lambda: web.hits, 30)
                    two.client.assoc = None
                # leaving the block aborts the client and closes the listener; the answer comes later to nobody
                await asyncio.sleep(0)

    run(main())


def test_hosts_that_are_not_allowed_are_not_asked(run) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.answers["/"] = pki.answers()
            port = web.url.rpartition(":")[2]
            for hosts in ((), ("pki.example.org",), ("*",), ("127.0.0.1:1",), (f"localhost:{port}",)):
                with RevocationService(policy(hosts=hosts)) as service:
                    both = pki.both(service, responders=(f"{web.url}/",))
                    await opens(both)
                    assert NO_CRL in both.server_events
            assert not web.hits
            with RevocationService(policy(hosts=(), responders=(f"{web.url}/",))) as service:
                both = pki.both(service, responders=("http://169.254.169.254/",))
                await opens(both)
                assert len(web.hits) == 2
                assert not found(both.server_events)
            with RevocationService(policy(hosts=(f"127.0.0.1:{port}",))) as service:
                await opens(pki.both(service, responders=(f"{web.url}/",)))
                assert len(web.hits) == 4

    run(main())


# --- lists over HTTP -------------------------------------------------------------------------------------------------
def test_a_list_of_a_distribution_point(run) -> None:
    """Asked once in the first handshake, kept up to date from then on."""

    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.answers["/crl"] = lambda _: pki.authority.crl
            with RevocationService(policy(ocsp="off")) as service:
                both = pki.both(service, points=(f"{web.url}/crl",))
                await opens(both)
                assert web.hits == ["/crl"]
                assert not HALF & {*both.client_events, *both.server_events}
                await opens(both)
                assert web.hits == ["/crl"]

    run(main())


@pytest.mark.event("IEC62351-9:4.1")
def test_a_new_list_ends_open_associations(run) -> None:
    """At once, not at the next key update: the service tells them."""

    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.answers["/crl"] = lambda _: pki.authority.crl
            with RevocationService(policy(ocsp="off", lists=(f"{web.url}/crl",), hosts=())) as service:
                both = pki.both(service)
                await until(lambda: service.known.lists(), 30)
                async with pair(None, None, **both.configs) as two:
                    await two.opened()
                    assert not HALF & {*both.client_events, *both.server_events}
                    pki.authority.utc_ms = now().utc_ms + 1000
                    pki.authority.revoke(both.client.credential.certificate)
                    service.refresh()
                    await asyncio.wait_for(two.ended(), 30)
                    assert REVOKED in both.server_events
                    assert REVOKED not in both.client_events

    run(main())


@pytest.mark.event("IEC62351-9:4.1")
def test_a_responder_that_finds_out_later(run) -> None:
    """One association's question ends another association of that peer too."""

    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.answers["/ocsp"] = pki.answers()
            with RevocationService(policy(hosts=(), responders=(f"{web.url}/ocsp",))) as service:
                both = pki.both(service)
                async with pair(None, None, **both.configs) as two:
                    await two.opened()
                    web.answers["/ocsp"] = pki.answers(status=revoked(now().utc_ms - HOUR, 1))
                    service.known._answers.clear()  # as if they had run out
                    await refused(both)
                    await asyncio.wait_for(two.ended(), 30)
                    assert both.server_events.count(REVOKED) + both.client_events.count(REVOKED) >= 2

    run(main())


@pytest.mark.event("IEC62351-9:4.2")
def test_an_older_or_forged_list_never_replaces_a_newer_one(run) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            both = None
            before = pki.authority.crl
            with RevocationService(policy(ocsp="off", lists=(f"{web.url}/crl",), hosts=())) as service:
                both = pki.both(service)
                pki.authority.utc_ms = now().utc_ms + 1000
                newer = pki.authority.revoke(both.client.credential.certificate)
                served = [newer]
                web.answers["/crl"] = lambda _: served[0]
                service.refresh()
                await until(lambda: service.known.lists(), 30)
                for other in (before, newer[:-1] + bytes([newer[-1] ^ 1]), b"garbage", pem("X509 CRL", before)):
                    served[0] = other
                    web.hits.clear()
                    service.refresh()
                    await until(lambda: web.hits, 30)
                    await refused(both)
                assert [crl.same_as(service.known.lists()[0]) for crl in service.known.lists()] == [True]
            # Nothing known: another service begins with a forged one, which says nothing.
            served[0] = newer[:-1] + bytes([newer[-1] ^ 1])
            with RevocationService(policy(ocsp="off", lists=(f"{web.url}/crl",), hosts=())) as service:
                both = pki.both(service)
                await opens(both)
                assert NO_CRL in both.server_events

    run(main())


def test_a_list_is_asked_for_by_its_tag(run) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.answers["/crl"] = lambda _: http(pki.authority.crl, "200 OK", 'ETag: "one"', "Last-Modified: today")
            with RevocationService(policy(ocsp="off", lists=(f"{web.url}/crl",))) as service:
                await until(lambda: service.known.lists(), 30)
                web.answers["/crl"] = lambda _: http(b"", "304 Not Modified")
                service.refresh()
                await until(lambda: len(web.hits) >= 2, 30)
                assert 'If-None-Match: "one"' in web.heads[1]
                assert "If-Modified-Since: today" in web.heads[1]
                assert len(service.known.lists()) == 1

    run(main())


def test_reloads_and_restarts_leave_one_follower_per_list(run) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.answers["/crl"] = web.answers["/point"] = lambda _: pki.authority.crl
            wanted = policy(ocsp="off", lists=(f"{web.url}/crl",))
            service = RevocationService(wanted).start()
            both = pki.both(service, points=(f"{web.url}/point",))
            await until(lambda: service.known.lists(), 30)
            before = len(service._tasks)
            for _ in range(5):
                service.configure(wanted)
            await until(lambda: len(web.hits) > 1, 30)
            assert len(service._tasks) == before
            await asyncio.to_thread(service.close)
            service.start()
            hits = len(web.hits)
            await until(lambda: len(web.hits) > hits, 30)
            service.configure(policy(ocsp="off"))  # the list is no longer wanted, by name; its host still is
            await opens(both)
            assert not HALF & set(both.server_events)
            service.configure(policy(ocsp="off", hosts=()))
            await until(lambda: not service.known.lists(), 30)
            await asyncio.to_thread(service.close)

    run(main())


# --- lists in files --------------------------------------------------------------------------------------------------
@pytest.mark.event("IEC62351-9:4.1")
def test_a_file_that_changes(run, tmp_path) -> None:
    async def main() -> None:
        pki = Pki()
        path = tmp_path / "root.crl.pem"
        path.write_bytes(pem("X509 CRL", pki.authority.crl))
        with RevocationService(files=[path], watch=0.05) as service:
            both = pki.both(service)
            async with pair(None, None, server=Recorder(echo=True), **both.configs) as two:
                await two.opened()
                assert not found(both.server_events) | (HALF & set(both.server_events))
                path.write_bytes(b"half a file")  # cannot be read: the list from before stays
                await asyncio.sleep(0.2)
                assert service.known.lists()
                pki.authority.utc_ms = now().utc_ms + 1000
                fresh = tmp_path / "new"
                fresh.write_bytes(pem("X509 CRL", pki.authority.revoke(both.server.credential.certificate)))
                fresh.replace(path)
                await asyncio.wait_for(two.ended(), 30)
                assert REVOKED in both.client_events

    run(main())


@pytest.mark.event("IEC62351-9:4.3")
def test_a_list_that_has_run_out(run, tmp_path) -> None:
    async def main() -> None:
        pki = Pki()
        pki.authority.utc_ms = now().utc_ms - 40 * 24 * HOUR
        path = tmp_path / "root.crl"
        path.write_bytes(pki.authority.revoke())
        pki.authority.utc_ms = now().utc_ms
        service = RevocationService(files=[path])
        both = pki.both(service)
        await opens(both)
        assert CRL_EXPIRED in both.server_events

    run(main())


@pytest.mark.event("IEC62351-9:4.4")
def test_a_list_with_a_bad_signature(run, tmp_path) -> None:
    async def main() -> None:
        pki = Pki()
        path = tmp_path / "root.crl"
        path.write_bytes(pki.authority.crl[:-1] + bytes([pki.authority.crl[-1] ^ 1]))
        service = RevocationService(files=[path])
        both = pki.both(service)
        await opens(both)
        assert CRL_SIGNATURE in both.server_events
        strict = pki.both(RevocationService(policy(ocsp="off", hard_fail=True), files=[path]))
        await refused(strict)
        assert CRL_SIGNATURE in strict.server_events

    run(main())


# --- for others, and the end -----------------------------------------------------------------------------------------
def test_status_and_ask(run) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.answers["/ocsp"] = pki.answers()
            with RevocationService(policy(hosts=(), responders=(f"{web.url}/ocsp",))) as service:
                config, _ = pki.config(pki.both(service).client.credential.name, service)
                one, root = config.credential.certificate, pki.authority.root
                assert service.status(one, root).pending
                assert not web.hits
                answer = await service.ask(one, root)
                assert answer == service.status(one, root) == revocation.Status()
                web.answers["/ocsp"] = pki.answers(status=revoked(now().utc_ms - HOUR, 4))
                service.known._answers.clear()
                later = await asyncio.to_thread(service.ask_blocking, one, root)
                assert later.revoked == "superseded"
                assert later.findings[0].id == REVOKED
                heard = []
                service.listeners.append(lambda: heard.append(1))
            assert service.status(one, root).revoked == "superseded"  # closed, it still knows
            assert (await service.ask(one, root)).revoked == "superseded"

    run(main())


def test_a_closed_service_holds_nobody_up(run) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.raw["/slow"] = silent
            service = RevocationService(policy(timeout=10)).start()
            both = pki.both(service, responders=(f"{web.url}/slow",))
            task = asyncio.create_task(opens(both))
            await until(lambda: web.hits, 30)
            await asyncio.to_thread(service.close)
            await asyncio.wait_for(task, 30)
            assert NO_OCSP in both.server_events + both.client_events
            service.close()

    run(main())
