"""Records and HTTP: settings, database, routes, artifacts, client, command line. No torch."""

import latency_tables as _first  # noqa: F401 - before numpy, see latency_tables/blas.py
