"""Jobs: their states, the queue, submission, and the polls that ask for them."""
