"""Accuracy without evaluating: which sub-networks to score, the additive predictor and its refinement."""
