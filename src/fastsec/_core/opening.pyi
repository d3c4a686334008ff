from typing import final

from fastsec._core.crypto import Secret
from fastsec._core.params import GuardParams

@final
class Opened:
    """What a verified transfer PDU said."""

    def __new__(cls) -> Opened: ...
    @property
    def appl_data(self) -> bytes | None: ...
    @property
    def rekey(self) -> tuple[int, bytes] | None: ...
    @property
    def req_rekey(self) -> bool: ...
    @property
    def changed_key(self) -> bool: ...
    @property
    def unknown(self) -> bool: ...

@final
class OpenGuard:
    """Opens transfer PDUs of one receiving direction under one key."""

    def __new__(
        cls,
        params: GuardParams,
        keys: Secret,
        ik: tuple[int, int] | None,
        ek: tuple[int, int] | None,
        *,
        start_time: str | None = None,
        previous: OpenGuard | None = None,
    ) -> OpenGuard: ...
    @property
    def params(self) -> GuardParams: ...
    @property
    def count(self) -> int: ...
    @property
    def last_time(self) -> str: ...
    def open(self, secpdu: bytes, utc_ms: int) -> Opened: ...
    def wipe(self) -> None: ...
