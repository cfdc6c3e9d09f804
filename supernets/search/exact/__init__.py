"""Exact search: fronts, bounds, integer programs; what the other strategies are held against."""
