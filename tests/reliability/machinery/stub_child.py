"""A child of a stub step that behaves badly: `segv`, `hog` (takes memory without end), `child_hang` (sleeps,
deaf to all)."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main() -> None:
    behave = sys.argv[1]
    if behave == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if behave == "child_hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    taken = []
    try:
        while True:
            taken.append(bytearray(64 << 20))
    except MemoryError:
        taken.clear()
        print(
            json.dumps(
                {
                    "event": "error",
                    "type": "OutOfMemory",
                    "message": "the step needs more memory than it may take",
                }
            )
        )


if __name__ == "__main__":
    main()
