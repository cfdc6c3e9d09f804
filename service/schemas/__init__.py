"""Bodies of requests and answers (pydantic), and nothing else."""
