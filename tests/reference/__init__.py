"""An independent implementation of the specification in plain Python, for tests and as baseline of the benchmarks.

Written from the specification page with its own TLV code and the `cryptography` package; it imports nothing of
fastsec. What it and fastsec agree on is then more than one author's reading of the same line. It is no security
product: keys lie in ordinary bytes objects and certificates are compared, not validated.
"""
