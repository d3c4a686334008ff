from typing import final

from fastsec._core.crypto import Secret
from fastsec._core.params import GuardParams

@final
class SealGuard:
    """Seals transfer PDUs of one sending direction under one key."""

    req_rekey: bool
    changed_key: bool
    rekey: tuple[int, bytes] | None
    soft_limit: int
    def __new__(
        cls,
        params: GuardParams,
        keys: Secret,
        ik: tuple[int, int] | None,
        ek: tuple[int, int] | None,
        *,
        start_time: str | None = None,
        previous: SealGuard | None = None,
    ) -> SealGuard: ...
    @property
    def params(self) -> GuardParams: ...
    @property
    def count(self) -> int: ...
    @property
    def due(self) -> bool: ...
    @property
    def last_time(self) -> str: ...
    def seal(self, appl_data: bytes, utc_ms: int) -> bytes: ...
    def wipe(self) -> None: ...
