"""Passes that make a trained network smaller or faster as it is delivered."""
