"""Parallel text: pairs from files, vocabularies, splits that do not leak, batches of tokens. No torch."""
