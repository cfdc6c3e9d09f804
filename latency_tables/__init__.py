"""Device facts: operators, measurements, latency tables, calibration, transfer. No torch, no web."""

import os

from latency_tables.blas import one_thread_unless_asked

# Here because OpenBLAS reads it once, when numpy is loaded, and every package of the project loads this one
# first.
one_thread_unless_asked(os.environ)
