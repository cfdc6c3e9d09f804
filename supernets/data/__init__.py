"""Data sets and preprocessing, free of torch."""
