"""Both event loops, and certificates for TLS."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).parent))

from tlsfiles import Authority
from world import World

from fastsec.aio.endpoints import forget_identities

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=sorted(LOOPS))
def run(request):
    """Run a coroutine on each kind of loop; an exception the loop was told of fails the test."""

    def runner(coroutine, *, quiet: bool = False, seconds: float = 20):
        complaints: list[dict[str, object]] = []
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as loop_runner:
            loop_runner.get_loop().set_exception_handler(lambda loop, context: complaints.append(context))
            result = loop_runner.run(asyncio.wait_for(coroutine, seconds))
        if not quiet:
            assert not complaints
        return result

    return runner


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> Authority:
    """A root with two good leaves, ``server`` and ``client``."""
    made = Authority(tmp_path_factory.mktemp("tls"), "root")
    made.issue("server")
    made.issue("client")
    return made


@pytest.fixture(scope="session")
def world() -> World:
    """Two identities under one trial authority."""
    return World()


@pytest.fixture(autouse=True)
def _fresh_identities():
    """No association numbers, limits or replay memory of an earlier test."""
    forget_identities()
    yield
    forget_identities()
