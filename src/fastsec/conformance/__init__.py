"""The conformance statement (IEC 62351-4, clause 17): what this installation does, found out by doing it.

``fastsec conformance`` prints it. No row holds a yes written by hand: what a table, an enumeration or a policy of the
code names is tried, where it can be tried in memory, and what is absent is "no" with the reason.
"""

from __future__ import annotations

from fastsec.conformance.model import Row, Statement, Table

__all__ = ["Row", "Statement", "Table", "statement"]


def statement() -> Statement:
    """The statement of this installation; takes about a second."""
    from fastsec.conformance import choices, neighbours, security

    return Statement((*security.tables(), *neighbours.tables()), choices.CHOICES)
