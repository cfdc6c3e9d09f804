"""Does the jobs: the durable engine and its pipelines."""

import latency_tables as _first  # noqa: F401 - before numpy, see latency_tables/blas.py
