"""Every secret made while this is active, to see at the end that none is left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from fastsec import handshake, key_update, keys
from fastsec._core.crypto import Secret
from fastsec._core.guard import OpenGuard, SealGuard
from fastsec._core.pk import Ephemeral
from fastsec.errors import LocalError

_PUBLIC = {group: Ephemeral.generate(group).public for group in (14, 23, 28)}


class NotedSecrets:
    """A context manager; ``left()`` gives what could still be used."""

    def __init__(self) -> None:
        self.private: list[Ephemeral] = []
        self.shared: list[Secret] = []
        self.guards: list[SealGuard | OpenGuard] = []
        self._stack = ExitStack()

    def __enter__(self) -> NotedSecrets:
        outer = self

        class Keys:
            @staticmethod
            def generate(group: int) -> Ephemeral:
                outer.private.append(Ephemeral.generate(group))
                return outer.private[-1]

        def derive(params: Any, z: Secret, h2: bytes) -> Secret:
            self.shared.append(z)
            self.shared.append(keys.derive(params, z, h2))
            return self.shared[-1]

        def guards(make: Callable[..., Any]) -> Callable[..., Any]:
            def made(*facts: Any, **more: Any) -> Any:
                pair = make(*facts, **more)
                self.guards += pair
                return pair

            return made

        for module in (handshake, key_update):
            self._stack.enter_context(patch.object(module, "Ephemeral", Keys))
            self._stack.enter_context(patch.object(module, "derive", derive))
        self._stack.enter_context(patch("fastsec.handshake_phase.first_guards", guards(keys.first_guards)))
        self._stack.enter_context(patch("fastsec.data_phase.next_guards", guards(keys.next_guards)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def clear(self) -> None:
        """Forget all so far."""
        self.private.clear()
        self.shared.clear()
        self.guards.clear()

    def left(self) -> list[object]:
        """Secrets that still are usable."""
        found: list[object] = [secret for secret in self.shared if len(secret)]
        for key in self.private:
            try:
                key.derive(_PUBLIC[key.group])
            except LocalError:
                continue
            found.append(key)
        for guard in self.guards:
            try:
                if isinstance(guard, SealGuard):
                    guard.seal(b"\xa0\x00", 0)
                else:
                    guard.open(b"\x30\x00", 0)
            except LocalError as error:
                if "wiped" in str(error):
                    continue
            except Exception:
                pass  # it worked on it
            found.append(guard)
        return found
