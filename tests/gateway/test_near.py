"""The near side's own settings: selectors, names, ACSE password, application context."""

from __future__ import annotations

from pathlib import Path

import pytest
from gateway_pair import gateways, plain, run

from fastsec.envs.osi import OsiAddress
from fastsec.errors import Aborted, FastsecError, Rejected


def test_password_of_the_plain_client(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki, cc_extra='[route.near]\npassword = "open sesame"\n') as pair:
            with pytest.raises(FastsecError):
                await pair.client()
            with pytest.raises(FastsecError):
                await pair.client(osi=plain(password=b"wrong"))
            assert not pair.served
            await (await pair.client(osi=plain(password=b"open sesame"))).release()

    run(test())


def test_password_towards_the_plain_server(pki: Path) -> None:
    async def test() -> None:
        osi = plain(password=b"plant secret")
        async with gateways(pki, server_osi=osi) as pair:
            with pytest.raises((Rejected, Aborted)):
                await pair.client()
        async with gateways(pki, server_osi=osi, der_extra='[route.near]\npassword = "plant secret"\n') as pair:
            await (await pair.client()).release()

    run(test())


def test_selectors_and_names_towards_the_plain_server(pki: Path) -> None:
    async def test() -> None:
        address = OsiAddress(tsel=b"\x00\x07", ssel=b"S", psel=b"PP", ap_title="1.1.77", ae_qualifier=3)
        osi = type(plain())(security=False, local=address, check_selectors=True, check_called=True)
        async with gateways(pki, server_osi=osi) as pair:
            with pytest.raises((Rejected, Aborted)):
                await pair.client()
        extra = (
            '[route.near.local]\nap_title = "1.1.55"\nae_qualifier = 5\n'
            '[route.near.remote]\ntsel = "0007"\nssel = "53"\npsel = "5050"\nap_title = "1.1.77"\nae_qualifier = 3\n'
        )
        seen = []

        def answer(stream: object, request: bytes) -> bytes:
            seen.append(stream.connection.request.calling)  # type: ignore[attr-defined]  # a stream being asked
            return b"\xa9\x00"

        async with gateways(pki, server_osi=osi, der_extra=extra, answer=answer) as pair:
            await (await pair.client()).release()
            assert (seen[0].ap_title, seen[0].ae_qualifier) == ("1.1.55", 5)

    run(test())


def test_names_demanded_of_the_plain_client(pki: Path) -> None:
    async def test() -> None:
        extra = '[route.near.remote]\nap_title = "1.1.999.1"\nae_qualifier = 12\n'
        async with gateways(pki, cc_extra=extra) as pair:
            await (await pair.client()).release()
            other = type(plain())(security=False, local=OsiAddress(ap_title="1.1.999.9", ae_qualifier=12))
            with pytest.raises(Rejected) as caught:
                await pair.client(osi=other)
            assert not caught.value.transient
            assert pair.records.about("another name")
            nameless = type(plain())(security=False)
            with pytest.raises(Rejected):
                await pair.client(osi=nameless)

    run(test())


def test_selectors_demanded_of_the_plain_client(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki, cc_extra='[route.near.local]\ntsel = "0009"\n') as pair:
            with pytest.raises(FastsecError):
                await pair.client()
            await (await pair.client(osi=plain(remote=OsiAddress(tsel=b"\x00\x09")))).release()
            # What is not configured is not checked.
            await (await pair.client(osi=plain(remote=OsiAddress(tsel=b"\x00\x09", ssel=b"x", psel=None)))).release()

    run(test())


def test_application_context_of_field_devices(pki: Path) -> None:
    async def test() -> None:
        extra = '[route.near]\napplication_context = "1.0.9506.1.1"\n'
        async with gateways(pki, der_extra=extra) as pair:
            await (await pair.client()).release()
            await (await pair.client(osi=plain(application_context="1.0.9506.1.1"))).release()

    run(test())
