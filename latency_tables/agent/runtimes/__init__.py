"""Runtimes that the agent can measure in: a catalog, one module for each. No module loads its runtime when
imported."""
