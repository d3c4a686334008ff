"""Identities, certificates, path validation, credentials and a trial authority (62351-4 Annex G, 62351-9, RFC 5280)."""
