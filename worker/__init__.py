"""Does the jobs: the durable engine and its pipelines."""
