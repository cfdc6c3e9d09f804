"""A device as one file: its context, every version of its latency table, and the whole networks measured on it.

The file is JSON and holds no id, no tenant and no key, so that one service writes it and another one reads it. What is
read goes through the same calls and the same checks as anything else that is posted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from latency_tables.errors import InvalidTable
from service.client import BespokeClient

FORMAT: Final = "bespoke-device-1"
_PROBES: Final = 1000


@dataclass(frozen=True)
class Exchanged:
    """What a file held."""

    name: str
    tables: int
    networks: int


def export_device(service: BespokeClient, name: str) -> bytes:
    """The device with its tables, the oldest first, and its measured networks."""
    device = service.device(name)
    tables = [json.loads(service.table(name, table["id"])) for table in sorted(device["tables"], key=lambda t: t["version"])]
    networks = [
        {"space": n["space"], "classes": n["classes"], "architecture": n["architecture"], "latency_ms": n["measured_ms"]}
        for n in service.networks(name)
    ]
    document = {
        "format": FORMAT,
        "name": device["name"],
        "description": device["description"],
        "context": device["context"],
        "tables": tables,
        "networks": networks,
    }
    return json.dumps(document, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"


def import_device(service: BespokeClient, data: bytes, name: str | None = None) -> Exchanged:
    """Register the device of a file, under another name if given. Raises InvalidTable, and ApiProblem for a name that is taken.

    A device that could not be read to its end is removed again.
    """
    document = _read(data)
    chosen = name or str(document["name"])
    service.add_device(chosen, document["context"], str(document.get("description", "")))
    try:
        for table in document["tables"]:
            service.upload_table(chosen, json.dumps(table, allow_nan=False).encode(), "application/json")
        networks = document["networks"]
        for start in range(0, len(networks), _PROBES):
            service.probes(chosen, networks[start : start + _PROBES])
    except BaseException:
        service.remove_device(chosen)
        raise
    return Exchanged(chosen, len(document["tables"]), len(document["networks"]))


def _read(data: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise InvalidTable(f"this is no device file: not JSON ({error})") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidTable(f"this is no device file: it must say format {FORMAT!r}, as `bespoke devices export` writes it")
    if not all(isinstance(document.get(key), list) for key in ("tables", "networks")) or "context" not in document:
        raise InvalidTable("this device file is not whole: it lacks its context, tables or networks")
    return document
