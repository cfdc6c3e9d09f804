"""`python -m benchmarks.open_pages URL N`: N open pages as a service sees them, each an event
stream that is read.

The key comes from BESPOKE_KEY. Says `open` once all have got their first event; ends with its standard input.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
from urllib.parse import urlsplit


def main(url: str, pages: int) -> int:
    parts, key = urlsplit(url), os.environ["BESPOKE_KEY"]
    chosen = selectors.DefaultSelector()
    head = f"GET /v1/events HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n"
    for _ in range(pages):
        line = socket.create_connection((parts.hostname or "", parts.port or 80), 10)
        line.sendall(f"{head}Accept: text/event-stream\r\n\r\n".encode())
        chosen.register(line, selectors.EVENT_READ, [False])
    chosen.register(sys.stdin, selectors.EVENT_READ)
    begun = 0
    while True:
        for entry, _ in chosen.select(0.2):
            if entry.fileobj is sys.stdin:
                return 0
            data = entry.fileobj.recv(65_536)  # type: ignore[union-attr]
            if not data:
                print("lost a stream", flush=True)
                return 1
            if not entry.data[0] and b"event: ready" in data:
                entry.data[0], begun = True, begun + 1
                if begun == pages:
                    print("open", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
