"""One router a subject; each checks, asks the rooms below, and answers."""
