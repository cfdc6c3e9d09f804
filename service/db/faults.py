"""What the database refuses with, by what a caller does about it. SQLAlchemy's tree stays in this room."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import (
    DatabaseError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

Fault = SQLAlchemyError  # anything
Conflict = IntegrityError  # somebody else wrote that before, or at the same moment
Away = OperationalError  # locked, full, restarted, not reachable
Unreadable = DatabaseError  # also: the file is no database, or a damaged one
AWAY: Final = (OperationalError, InterfaceError, InternalError, PoolTimeout)  # may be over in a moment
# Busy, locked, read-only, I/O error, full, cannot open. Not 1: a wrong statement stays wrong.
_SQLITE_OUTAGES: Final = frozenset({5, 6, 8, 10, 13, 14})


def is_database_outage(error: Exception) -> bool:
    """Whether the database is away or cannot write, so that waiting helps and no other statement would."""
    if isinstance(error, PoolTimeout) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return True
    if not isinstance(error, (OperationalError, InterfaceError)):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _SQLITE_OUTAGES
