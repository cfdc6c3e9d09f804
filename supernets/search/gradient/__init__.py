"""Gradient-based search: gates and architecture parameters (torch)."""
