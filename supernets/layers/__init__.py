"""Torch layers of the operators: elastic ones, and how their channels are sorted."""
