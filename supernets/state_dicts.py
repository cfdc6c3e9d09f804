"""State dicts in the files that people bring: wrapped, averaged, with a prefix on every name.

A file may hold several: `{"state_dict": ..., "state_dict_ema": ..., "optimizer": ...}`. Each is named by its
path in the file, one is chosen, and what was chosen is said. Only tensors and plain values are read
(`weights_only`): no code of a file runs.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from supernets.errors import InvalidCheckpoint

State = dict[str, Tensor]
PREFERRED: Final = ("state_dict", "model", "model_state_dict", "net", "network", "weights", "params")
"""What is read of a file with several, unless another is asked for; then the first without an average."""
_AVERAGED: Final = ("ema", "swa", "shadow", "average")
_NEVER: Final = ("optim", "sched", "scaler", "amp")  # what training keeps besides, which holds tensors too
_DEPTH: Final = 2
_COUNTERS: Final = (
    "n_averaged",
    "num_updates",
    "decay",
)  # of averaging wrappers, beside the averaged weights
_SHOWN: Final = 3
# Whatever a damaged file makes of torch's restricted unpickler.
_UNREADABLE: Final = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, EOFError, OSError),
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError, SafetensorError),
)


class _Meter:
    """What is read of a figure that a training script kept of its progress: its fields, and none of its
    code."""


# Plain values that training scripts keep beside the weights: their options, a best accuracy computed by
# numpy, and fairseq's meters, which are read without fairseq.
_PLAIN_VALUES: Final[tuple[Any, ...]] = (
    Namespace,
    *((_Meter, f"fairseq.meters.{name}") for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)),
    *(
        (np.float64(0).__reduce__()[0], f"{module}.multiarray.scalar")
        for module in ("numpy.core", "numpy._core")
    ),
)


@dataclass(frozen=True)
class Found:
    """A state dict of a file. name: its path there, empty where the file is one. prefix: what was taken off
    every key.

    others: names of those that were not read. ignored: entries beside the weights.
    """

    state: State
    name: str = ""
    prefix: str = ""
    others: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def described(self) -> str:
        """One line for the person who asked."""
        parts = [f"read {self.name}" if self.name else "read the whole file"]
        if self.prefix:
            parts.append(f"{self.prefix} taken off every name")
        if self.ignored:
            parts.append(f"{', '.join(self.ignored)} left out")
        if self.others:
            parts.append(f"not read: {', '.join(self.others)} (choose with --weights)")
        return "; ".join(parts)


def read_state_dict(path: Path, weights: str | None = None) -> Found:
    """The state dict of a file. weights: which of several, by its name or a word of it, such as `ema`.

    Raises InvalidCheckpoint with what to do next.
    """
    candidates = dict(_candidates(_load(path)))
    if not candidates:
        raise InvalidCheckpoint(f"{path.name} holds no state dict; give the file with the supernet's weights")
    name = _chosen(path, list(candidates), weights)
    state, ignored = _without_counters(candidates[name])
    prefix = common_prefix(state)
    plain = {key.removeprefix(prefix): value for key, value in state.items()}
    return Found(plain, name, prefix, tuple(other for other in candidates if other != name), ignored)


def common_prefix(state: Mapping[str, Tensor]) -> str:
    """What all names begin with, whole components (`module.`, `_orig_mod.module.`); never a whole name."""
    split = [key.split(".") for key in state]
    length = 0
    while all(len(parts) > length + 1 and parts[length] == split[0][length] for parts in split):
        length += 1
    # One tensor has itself in common with all: that says nothing.
    return "".join(f"{part}." for part in split[0][:length]) if len(split) > 1 else ""


def _candidates(data: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """(path in the file, state dict) of everything that may be one."""
    if not isinstance(data, Mapping) or not data:
        return
    if all(isinstance(value, Tensor) and isinstance(key, str) for key, value in data.items()):
        yield path, data
        return
    for key, value in data.items() if depth < _DEPTH else ():
        if isinstance(key, str) and not key.lower().startswith(_NEVER):
            yield from _candidates(value, f"{path}.{key}" if path else key, depth + 1)


def _chosen(path: Path, names: list[str], weights: str | None) -> str:
    if weights is not None:
        fitting = [n for n in names if n == weights] or [n for n in names if weights.lower() in _words(n)]
        if len(fitting) == 1:
            return fitting[0]
        shown = ", ".join(n or "one for the whole file" for n in names)
        raise InvalidCheckpoint(
            f"--weights {weights} names {len(fitting)} of what {path.name} holds: {shown}"
        )
    plain = [n for n in names if not _words(n) & set(_AVERAGED)]
    by_rank = {n: PREFERRED.index(last) for n in plain if (last := n.rpartition(".")[2]) in PREFERRED}
    if len(names) == 1 or len(plain) == 1:
        return (plain or names)[0]
    if by_rank:
        return min(by_rank, key=lambda n: (n.count("."), by_rank[n]))
    raise InvalidCheckpoint(
        f"{path.name} holds several state dicts: choose one with --weights, of {', '.join(names)}"
    )


def _words(name: str) -> set[str]:
    return set(re.split(r"[._]", name.lower()))


def _without_counters(state: Mapping[str, Tensor]) -> tuple[State, tuple[str, ...]]:
    ignored = tuple(key for key in state if key in _COUNTERS)
    return {key: value for key, value in state.items() if key not in _COUNTERS}, ignored


def _load(path: Path) -> Any:
    try:
        if _is_safetensors(path):
            return load_file(path)
        with torch.serialization.safe_globals(list(_PLAIN_VALUES)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on archives; what is wrong is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InvalidCheckpoint(
            f"there is no file {path.name}; give the path of a downloaded checkpoint"
        ) from error
    except _UNREADABLE as error:
        raise InvalidCheckpoint(f"{path.name} {_why_unreadable(path, str(error))}") from error


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins as safetensors does, whatever its name: the length of a JSON header, then the
    header."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _why_unreadable(path: Path, error: str) -> str:
    """What the file is, as far as that can be seen without running anything of it, and what to do."""
    if "TorchScript" in error:
        return f"is a TorchScript program; save its weights alone: {_SAVE.format('torch.jit.load(FILE)')}"
    if "Unsupported global" in error or "Unsupported class" in error:
        kinds = _globals_of(path)
        shown = f" ({', '.join(kinds[:_SHOWN])}{', ...' if len(kinds) > _SHOWN else ''})" if kinds else ""
        return (
            f"holds more than tensors{shown}: a whole pickled module, perhaps, and reading that would run "
            "its code. Save the "
            f"weights alone where it was made: {_SAVE.format('model')}"
        )
    names = _names_in_archive(path)
    if names and not any(name.endswith("data.pkl") for name in names):
        return (
            f"is an archive of files ({', '.join(names[:_SHOWN])}); unpack it and give the file with "
            "the weights"
        )
    return "is damaged or holds more than tensors; download it again from where it was published"


_SAVE: Final = "torch.save({}.state_dict(), 'weights.pth')"


def _names_in_archive(path: Path) -> list[str]:
    """Names of the files in a zip archive, printable and short; none where it is damaged or no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [_printable(name) for name in archive.namelist() if not name.endswith("/")]
    except _UNREADABLE:
        return []


def _printable(name: str) -> str:
    return "".join(c for c in name if c.isprintable())[:80]


def _globals_of(path: Path) -> list[str]:
    """Names of the classes and functions that reading the file would need, printable and short."""
    try:
        found = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except _UNREADABLE:
        return []
    return [_printable(name) for name in found]
