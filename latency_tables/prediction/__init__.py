"""From rows to the latency of whole networks: calibration, the upper bound, refinement, transfer between
devices."""
