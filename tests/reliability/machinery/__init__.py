"""What the proofs are made of: servers, fleets, killers, checkers, corpora. Benchmarks use it too."""
