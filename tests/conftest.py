"""Puts tests/ on the import path: every test may say ``from reference.peer import ReferencePeer``.

And what the marker ``event`` promises: a test with ``@pytest.mark.event("IEC62351-3:1.2")`` fails unless that event was
raised while it ran.
"""

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

import event_record

# A loaded machine is no fault of the code: no limit per example, pytest-timeout catches what hangs.
settings.register_profile("fastsec", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fastsec")


def events_promised(item: pytest.Item) -> set[str]:
    """What the markers of a test say."""
    return {str(name) for marker in item.iter_markers("event") for name in marker.args}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    promised = events_promised(item)
    if not promised:
        return (yield)
    if unknown := sorted(promised - event_record.IDS):
        pytest.fail(f"the catalogue has no event {', '.join(unknown)}")
    with event_record.recording() as seen:
        result = yield
    if missing := sorted(promised - seen):
        pytest.fail(f"not raised: {', '.join(missing)}; raised: {', '.join(sorted(seen)) or 'none'}")
    return result
