"""The compiled hot path: BER cursor, libcrypto keys, Guard, TPKT, OSI data phase, public-key work."""
