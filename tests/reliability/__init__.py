"""Proofs that jobs survive and that nobody gets in: cases A–E, and the machinery behind them."""
