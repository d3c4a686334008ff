from typing import Final, final

from fastsec._core.crypto import Secret

MODE_HMAC: Final[int]
MODE_GMAC: Final[int]
MODE_CBC_HMAC: Final[int]
MODE_CBC_GMAC: Final[int]
MODE_AE: Final[int]

def scan_transfer(secpdu: bytes) -> tuple[int, bool, bool, bool]:
    """(kind 0 clear 1 encrypted, has rekey, reqRekey, changedKey) of an unverified transfer SecPDU."""

@final
class GuardParams:
    """What all guards of one association have in common."""

    def __new__(
        cls, mode: int, asso_id: str, icv_algorithm: bytes, icv_len: int, aes_key_size: int, mac_key_size: int
    ) -> GuardParams: ...
    @property
    def mode(self) -> int: ...
    @property
    def asso_id(self) -> str: ...
    @property
    def icv_algorithm(self) -> bytes: ...
    @property
    def icv_len(self) -> int: ...
    @property
    def aes_key_size(self) -> int: ...
    @property
    def mac_key_size(self) -> int: ...

@final
class Outgoing:
    """(time, seq) and nonce counter of one sending direction; C code only."""

    def __new__(cls) -> Outgoing: ...

@final
class Window:
    """Last accepted (time, seq) of one receiving direction; C code only."""

    def __new__(cls) -> Window: ...

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
