"""Run a module as a program that ends when its parent does: `python -m service.cli.tethered worker`.

The parent holds the other end of standard input. When it dies, however it dies, the end of file arrives here
and this process asks itself to stop. So a killed `bespoke serve` leaves nothing behind that holds the port.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    module, sys.argv = sys.argv[1], sys.argv[1:]
    threading.Thread(target=_watch, name="tether", daemon=True).start()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
