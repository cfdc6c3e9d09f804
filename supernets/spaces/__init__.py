"""Search spaces: their choices, architectures, operators, and the published ones. Free of torch."""
