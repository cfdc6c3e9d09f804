"""`python -m latency_tables.agent --server URL --token TOKEN`."""

from __future__ import annotations

import sys

from latency_tables.agent import main

if __name__ == "__main__":
    sys.exit(main())
