"""What the agent keeps on disk so that a restart goes on where it stopped: its identity and results not yet
posted."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latency_tables.agent.errors import AgentError
from latency_tables.files import whole

try:
    import fcntl
except ImportError:  # not on POSIX: nothing keeps two agents apart
    fcntl = None  # type: ignore[assignment]


@dataclass
class State:
    """One enrolment.

    sequence: number of the next post. pending: bodies of posts that were not acknowledged, oldest first; a
    body is kept as it was sent, so that sending it again is recognised. sentinel: sha256 and size_bytes of
    the operator that tells the speed of a session; reference_ms: the fastest it was ever seen here.
    """

    server: str
    device: str
    session_id: str
    agent_key: str
    fingerprint: str
    expires_at: str | None = None
    sequence: int = 0
    reference_ms: float | None = None
    sentinel: dict[str, Any] | None = None
    pending: list[dict[str, Any]] = field(default_factory=list)


class StateFolder:
    """A folder (0700) with `state.json` (0600) and downloaded files under their SHA-256. One agent at a time
    uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = path / "files"
        for folder in (path, self._files):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other agents out of this folder. Raises AgentError when one is at work in it."""
        with (self._path / "lock").open("a") as lock:
            if fcntl is not None:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    raise AgentError(
                        "another agent works in this state folder; name another one with --state-dir"
                    ) from None
            yield

    def load(self) -> State | None:
        """The state of an earlier run, or None. Raises AgentError where the file is not ours."""
        try:
            data = json.loads((self._path / "state.json").read_text(encoding="utf-8"))
            return _from_json(data)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise AgentError(
                f"{self._path / 'state.json'} is not the state of an agent; remove it and enrol again"
            ) from error

    def save(self, state: State) -> None:
        """Write the state so that a crash leaves the old or the new one, never a part."""
        with whole(self._path / "state.json") as file:
            file.write(json.dumps(asdict(state)).encode())

    def forget(self) -> None:
        """Remove identity and results: the session is over."""
        (self._path / "state.json").unlink(missing_ok=True)

    def file(self, sha256: str) -> Path:
        """Where the file of that hash lies, or would lie."""
        return self._files / sha256

    def has_file(self, sha256: str) -> bool:
        """Whether the file is there and its content still has that hash."""
        try:
            return hashlib.sha256(self.file(sha256).read_bytes()).hexdigest() == sha256
        except OSError:
            return False

    def keep_file(self, sha256: str, data: bytes) -> None:
        """Store a verified file (0600)."""
        temporary = self._files / f"{sha256}.new"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        temporary.replace(self.file(sha256))

    def drop_files(self, keep: frozenset[str] = frozenset()) -> None:
        """Remove downloaded files but those."""
        for path in self._files.iterdir():
            if path.name not in keep:
                path.unlink(missing_ok=True)


def _from_json(data: Mapping[str, Any]) -> State:
    state = State(**data)
    texts = (state.server, state.device, state.session_id, state.agent_key, state.fingerprint)
    if (
        not all(isinstance(text, str) for text in texts)
        or type(state.sequence) is not int
        or not isinstance(state.pending, list)
    ):
        raise TypeError("wrong types")
    return state
