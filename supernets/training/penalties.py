"""Weights of what may be added to a loss. No torch here: steps are known by them."""

from __future__ import annotations

from typing import Final

BETA: Final = 1e-3
"""Of the distance from orthogonal layers (`supernets.training.defensive`); the paper's order of magnitude."""
