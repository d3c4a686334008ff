"""Puts tests/ on the import path: every test may say ``from reference.peer import ReferencePeer``."""
