"""Checkpoints that survive a kill at any moment: safetensors and JSON, never pickle.

A checkpoint is a folder: files are written into `attempt-N/`, flushed to disk, and the folder is renamed in
one step. Reading checks the SHA-256 of every file, of the state too, and falls back to the checkpoint before
when one is damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from latency_tables.files import sha256_of, sync_folder
from supernets.errors import InvalidCheckpoint

KEPT = 2
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What was read: groups of tensors (weights, optimiser, ...) and the state beside them."""

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    damaged: tuple[str, ...] = ()


def attempt_folder(folder: Path) -> Path:
    """A fresh `attempt-N/` of its own for this process; those of earlier attempts that died are swept away.

    A frozen process that wakes up later only loses its own folder: it never writes into another one's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [
        int(p.name.split("-", 1)[1]) for p in folder.glob("attempt-*") if p.name.split("-", 1)[1].isdigit()
    ]
    for number in numbers:
        shutil.rmtree(folder / f"attempt-{number}", ignore_errors=True)
    # Written down as well: a number that came back would be the folder of a frozen process, too.
    number = max([0, *numbers, _last_attempt(folder)]) + 1
    attempt = folder / f"attempt-{number}"
    attempt.mkdir()
    _write(folder / "attempts", str(number).encode())
    return attempt


def _last_attempt(folder: Path) -> int:
    try:
        return int((folder / "attempts").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def save_checkpoint(
    attempt: Path, name: str, tensors: Mapping[str, Tensors], state: Mapping[str, Any]
) -> Path:
    """Write the folder `name` next to `attempt`, whole or not at all, and drop all but the last two.

    Raises InvalidCheckpoint when the attempt was swept away by a newer process.
    """
    staged = attempt / name
    try:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        hashes = {}
        for group, values in tensors.items():
            path = staged / f"{group}.safetensors"
            save_file({key: value.detach().cpu().contiguous() for key, value in values.items()}, path)
            hashes[path.name] = _flush(path)
        _write(staged / "state.json", _sealed({**state, "files": hashes}))
        sync_folder(staged)
        final = attempt.parent / name
        # A resumed training may reach a position again that its checkpoint has already.
        if not final.exists():
            staged.rename(final)
            sync_folder(attempt.parent)
    except FileNotFoundError as error:
        raise InvalidCheckpoint("another process took this training over; this one stops") from error
    for old in sorted(attempt.parent.glob("checkpoint-*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, None where there is none; `damaged` names those passed over."""
    damaged = []
    for path in sorted(folder.glob("checkpoint-*"), reverse=True):
        try:
            tensors, state = read_folder(path)
        except InvalidCheckpoint:
            damaged.append(path.name)
            shutil.rmtree(path, ignore_errors=True)
            continue
        return Checkpoint(tensors, state, tuple(damaged))
    return None


def read_folder(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """(tensors, state) of one checkpoint. Raises InvalidCheckpoint when a file is missing or not what was
    written."""
    try:
        written = (path / "state.json").read_bytes()
        state = json.loads(written)
        del state["sha256"]
        if _sealed(state) != written:
            raise InvalidCheckpoint(f"checkpoint {path.name}: state.json is damaged")
        tensors = {}
        for name, wanted in state.pop("files").items():
            if sha256_of(path / name) != wanted:
                raise InvalidCheckpoint(f"checkpoint {path.name}: {name} is damaged")
            tensors[name.removesuffix(".safetensors")] = load_file(path / name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise InvalidCheckpoint(f"checkpoint {path.name} cannot be read: {error}") from error
    return tensors, state


def publish(
    attempt: Path,
    name: str,
    tensors: Tensors | None = None,
    data: Mapping[str, Any] | None = None,
    header: Mapping[str, str] | None = None,
) -> str:
    """Write a result file next to `attempt` in one step, over an older one; gives its SHA-256. header: what
    a file of tensors says of itself."""
    staged = attempt / name
    if tensors is not None:
        whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(whole, staged, None if header is None else dict(header))
    else:
        staged.write_text(json.dumps(data, indent=1, sort_keys=True), encoding="utf-8")
    digest = _flush(staged)
    staged.replace(attempt.parent / name)
    sync_folder(attempt.parent)
    return digest


def _sealed(state: Mapping[str, Any]) -> bytes:
    """The state as JSON that holds its own SHA-256."""
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    return json.dumps({**state, "sha256": digest}, sort_keys=True).encode()


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    _flush(path)


def _flush(path: Path) -> str:
    """Force a written file to disk; gives its SHA-256."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return sha256_of(path)
