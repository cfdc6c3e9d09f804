"""How a device is measured: the protocol, its speed beside a sentinel, sleep, and what is measured once
more."""
