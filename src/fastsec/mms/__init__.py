"""What fastsec looks at inside MMS PDUs (ISO 9506-2). Engine and environments treat them as opaque octets."""
