"""Access control on MMS services (IEC 62351-8): rights, roles, what a request needs, and the judge that decides."""
