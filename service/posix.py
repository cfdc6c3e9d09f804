"""What the service and its workers need of the system: Linux or macOS. Checked before anything that needs it
is loaded."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

NEEDED: Final = ("fcntl", "resource")


def what_is_missing() -> str | None:
    """One sentence for a system that the service cannot run on, None where it can."""
    for name in NEEDED:
        try:
            import_module(name)
        except ImportError:
            return sentence(name)
    return None


def sentence(name: str) -> str:
    """What to tell somebody whose Python has no module of that name, one of NEEDED."""
    return (
        f"the service and its workers run on Linux and macOS only (Python's {name} is missing on "
        f"{sys.platform}); here you can use the agent, and the command line with --url for a service "
        "elsewhere"
    )
