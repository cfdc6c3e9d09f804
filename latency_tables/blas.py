"""How many threads numpy's linear algebra takes: one, unless somebody asked for more. Set before numpy is
loaded."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Final

_UNLESS_ASKED: Final = {
    # Matrices are small here: a second thread gains little, and on a busy machine its spinning costs more
    # than the work.
    "OPENBLAS_NUM_THREADS": "1",
    # torch and scikit-learn keep their threads (OMP_NUM_THREADS is theirs), but those that wait must not spin
    # either.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def one_thread_unless_asked(environment: MutableMapping[str, str]) -> None:
    """Set what is not set, in the environment of this process or in that of a child."""
    for name, value in _UNLESS_ASKED.items():
        environment.setdefault(name, value)
