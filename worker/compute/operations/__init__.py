"""What the child can do with torch, one function for each request of `worker.compute.requests`."""
