"""The peer's abort is being verified while this side wants to send: the abort is what counts, and its event."""

from __future__ import annotations

import pytest
from world import PDU, Recorder, pair, until

from fastsec.aio.jobs import Jobs
from fastsec.errors import Aborted
from fastsec.instant import now


@pytest.mark.parametrize("kind", ["secured", "secured-tls"])
@pytest.mark.parametrize("how", ["update_keys", "release", "null"])
def test_sending_does_not_hide_the_peers_abort(run, world, authority, monkeypatch, kind, how) -> None:
    held = []
    submit = Jobs.submit
    server = Recorder(echo=True)

    def hold_those_of_the_server(self, job, done, *, urgent=False) -> None:
        if done.__self__ is server.assoc:
            held.append((job, done))
        else:
            submit(self, job, done, urgent=urgent)

    async def main() -> None:
        async with pair(world, authority, kind, server=server) as two:
            await two.opened()
            client = two.client
            client.assoc.write(PDU)
            await client.until(lambda: client.pdus == [PDU])
            monkeypatch.setattr(Jobs, "submit", hold_those_of_the_server)
            octets = server.assoc._channel.seal(PDU, now().utc_ms)
            server.assoc.transport.write(octets[:-1] + bytes((octets[-1] ^ 1,)))
            await client.wait("ended")
            assert "ENCR_BAD_ICV" in client.calls
            await until(lambda: held)  # the client's DtSecAbort has come
            if how == "null":  # what the timer of a side that has sent nothing does
                server.assoc._engine._send_null(now())
                server.assoc._drain()
            else:
                getattr(server.assoc, how)()
            monkeypatch.undo()
            for job, done in held:
                submit(server.assoc._runtime.jobs, job, done)
            await server.wait("ended")
            assert "ALARM_DTSEC_ABT" in server.calls
            assert isinstance(server.error, Aborted)
            assert server.error.side == "peer"

    run(main())
