"""A distribution of somebody else: operator families and a space of networks that hear. Nothing of it is imported by
the tests' own process, whose catalogs stay as they are; put the folder on a path, and it is installed."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def environment() -> dict[str, str]:
    """Of a process that has the distribution installed, beside this project."""
    root = FOLDER.parents[2]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(FOLDER), str(root)]), "OMP_NUM_THREADS": "1"}
