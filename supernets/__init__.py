"""Networks and search: spaces, elastic supernets, training, accuracy, search, export."""

import latency_tables as _first  # noqa: F401 - before numpy, see latency_tables/blas.py
