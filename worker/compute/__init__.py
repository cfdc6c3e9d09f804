"""Torch in a child process: the calls, the child, and the operations it knows."""
