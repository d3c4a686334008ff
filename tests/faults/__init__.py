"""Faults of the wire at every octet of an association: in memory with a turned clock, and over real sockets."""
