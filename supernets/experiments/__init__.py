"""Controls: sub-networks against the same networks trained alone, and their report."""
