"""The security event log of IEC 62351-14 without its files and sockets: records, lines, hash chain, rate limits."""
