def scan_transfer(secpdu: bytes) -> tuple[int, bool, bool, bool]:
    """(kind 0 clear 1 encrypted, has rekey, reqRekey, changedKey) of an unverified transfer SecPDU."""
