"""A child that behaves badly: `segv`, `hang`, `exit3`, `noise`, `error`, `memory`; or well: `echo`."""

import json
import os
import signal
import sys
import time

how = sys.argv[1]
if how == "segv":
    os.kill(os.getpid(), signal.SIGSEGV)
if how == "hang":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)
if how == "keeps":

    def keep(*_):
        print("kept", file=sys.stderr, flush=True)
        sys.exit(143)

    signal.signal(signal.SIGTERM, keep)
    print(json.dumps({"event": "ready"}), flush=True)
    time.sleep(3600)
if how == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(json.dumps({"event": "ready"}), flush=True)
    time.sleep(3600)
if how == "exit3":
    print("about to leave", file=sys.stderr)
    sys.exit(3)
if how == "noise":
    print("a library says hello")
    print(json.dumps({"event": "result", "value": 1}), flush=True)
if how == "error":
    print(json.dumps({"event": "error", "type": "InvalidDataset", "message": "no classes"}), flush=True)
if how == "environment":
    print(json.dumps({"event": "result", "environment": sorted(os.environ)}), flush=True)
if how == "memory":
    try:
        bytearray(2 << 30)
        print(json.dumps({"event": "result", "got": True}), flush=True)
    except MemoryError:
        print(json.dumps({"event": "result", "got": False}), flush=True)
if how == "hog":
    taken = bytearray(2 << 30)
if how == "beats":
    heard = 0
    while heard < 2:
        heard += len(os.read(0, 100))
    print(json.dumps({"event": "result", "heard": heard}), flush=True)
if how == "family":
    grandchild = os.fork()
    if grandchild == 0:
        time.sleep(3600)
    print(json.dumps({"event": "result", "pid": grandchild}), flush=True)
    time.sleep(3600)
