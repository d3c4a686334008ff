"""Puts tests/ on the import path: every test may say ``from reference.peer import ReferencePeer``."""

from hypothesis import HealthCheck, settings

# A loaded machine is no fault of the code: no limit per example, pytest-timeout catches what hangs.
settings.register_profile("fastsec", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fastsec")
