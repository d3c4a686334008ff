"""An access policy on a route of the A-profile: it gives no roles, so there is what everybody may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gateway_pair import CONCLUDE_REQUEST, CONCLUDE_RESPONSE, answer_to, run
from test_aprofile_route import _fresh_memories, files, two

import aprofile_files
from mms_requests import get_name_list, read, request, variables, write

__all__ = ["_fresh_memories", "files"]  # fixtures

LOOK, OPERATE = read(variables("GGIO1$ST$Ind1")), write(variables("GGIO1$CO$x$Oper"))


@pytest.mark.parametrize("reverse", [False, True], ids=["dialled", "dials"])
def test_what_everybody_may_do(files: Path, reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = aprofile_files.configuration

    def with_access(name: str, *ports: int, **values: Any) -> str:
        policy = '[access.a]\ndefault = ["LISTOBJECTS", "READVALUES"]\n' if name == "der" else ""
        return usual(name, *ports, **{**values, "head": policy}) + ('access = "a"\n' if name == "der" else "")

    async def test() -> None:
        async with two(files, reverse=reverse) as both:
            client = await both.client()
            for _ in range(3):
                for body in (LOOK, get_name_list()):
                    await client.send(request(body))
                    assert await client.recv() == answer_to(request(body))
                await client.send(request(OPERATE))
                assert await client.recv() == bytes.fromhex("a108020107a503800103")
            await client.send(CONCLUDE_REQUEST)
            assert await client.recv() == CONCLUDE_RESPONSE
            await client.release()
            denials = both.records.about("a request was denied")
            assert [entry["p_Role"] for entry in denials] == ["none"] * 3

    monkeypatch.setattr(aprofile_files, "configuration", with_access)
    run(test())
