"""Device facts: operators, measurements, latency tables, calibration, transfer. No torch, no web."""
