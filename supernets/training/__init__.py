"""Training: recipes, the loop, checkpoints, processes, and the evaluation of sub-networks."""
