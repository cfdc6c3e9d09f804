"""The command `bespoke`."""
