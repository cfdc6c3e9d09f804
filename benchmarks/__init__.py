"""What the product costs and gains, measured: `python -m benchmarks.NAME`."""

import latency_tables as _first  # noqa: F401 - before numpy, see latency_tables/blas.py
