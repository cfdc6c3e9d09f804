"""What can go wrong on a network's way out."""

from __future__ import annotations

from latency_tables.errors import BespokeError


class PushFailed(BespokeError):
    """A network that could not be handed over; nothing half is left behind."""
