"""Devices: their contexts, tables, prices, transfer and exchange."""
