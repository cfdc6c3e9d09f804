"""`python -m service`: the API, where the system can run it."""

from __future__ import annotations

import sys

from service.posix import what_is_missing


def main() -> int:
    """Serve until told to stop; the exit status."""
    missing = what_is_missing()
    if missing is not None:
        sys.stderr.write(f"bespoke: {missing}\n")
        return 2
    from service.http.serving import main as serve  # noqa: PLC0415 - it cannot even be loaded on such a system

    return serve()


if __name__ == "__main__":
    sys.exit(main())
