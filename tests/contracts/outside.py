"""A distribution as its author would write it: modules beside each other and entry points, nothing of ours touched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def blocks_of(page: str) -> dict[str, list[str]]:
    """Language -> its code blocks of a page of docs/, in order."""
    found: dict[str, list[str]] = {}
    for language, text in re.findall(r"```(\w*)\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL):
        found.setdefault(language, []).append(text)
    return found


def entry_points_of(toml: str) -> str:
    """The table of a pyproject.toml as the entry_points.txt of an installed distribution."""
    groups = re.findall(r'entry-points\."([\w.]+)"\]\n((?:[^\[\n]+\n)*)', toml)
    return "\n".join(f"[{group}]\n{lines.replace(chr(34), '')}" for group, lines in groups)


def install(folder: Path, modules: Mapping[str, str], entry_points: str) -> dict[str, str]:
    """Environment of a process that has the distribution installed. modules: file name -> text."""
    for name, text in modules.items():
        (folder / name).write_text(text)
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "OMP_NUM_THREADS": "1"}


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Python in that environment, in the root of this project."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
