"""Search over the choices of a space: the problem, its limits, and one strategy a file in `catalog`."""
