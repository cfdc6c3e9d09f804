"""A private PostgreSQL server in a temporary folder: started, killed and restarted at will, reachable from
127.0.0.1 only."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """Folder of PostgreSQL's programs, or None where there is no server."""
    found = shutil.which("pg_ctl")
    if found is not None:
        return Path(found).resolve().parent
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return newest[-1].parent if newest else None


def why_not() -> str | None:
    """Why no server can be started here, or None."""
    if binaries() is None:
        return "no PostgreSQL server is installed (apt-get install postgresql)"
    if os.geteuid() == 0 and _account() is None:
        return "PostgreSQL refuses to run as root and there is no account `postgres`"
    return None


def databases(asked: str) -> tuple[str, ...]:
    """`sqlite`, `postgresql` or, asked for `both`, those that can be had here; says what is left out, ends
    the program where nothing is left, so that a benchmark of nothing does not pass."""
    names = ("sqlite", "postgresql") if asked == "both" else (asked,)
    reason = why_not()
    if reason is None or "postgresql" not in names:
        return names
    if names == ("postgresql",):
        raise SystemExit(f"PostgreSQL was asked for: {reason}")
    print(f"PostgreSQL is left out: {reason}", file=sys.stderr)
    return ("sqlite",)


class PostgresServer:
    """One server with its own folder and port. Every database made by `database` is empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self._made = 0
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        folder.chmod(0o700)
        self._run(
            "initdb",
            "-D",
            str(self.data),
            "-U",
            "bespoke",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C.UTF-8",
        )

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c "
            "max_connections=200 "
            "-c shared_buffers=64MB -c synchronous_commit=on"
        )
        self._run(
            "pg_ctl",
            "-D",
            str(self.data),
            "-w",
            "-t",
            "60",
            "-l",
            str(self.folder / "log"),
            "-o",
            options,
            "start",
        )

    def stop(self, mode: str = "fast") -> None:
        """mode: smart, fast or immediate (a crash: no shutdown, recovery at the next start)."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-m", mode, "stop", check=False)

    def restart(self, mode: str) -> None:
        self.stop(mode)
        self.start()

    def database(self) -> str:
        """SQLAlchemy URL of a new, empty database."""
        self._made += 1
        name = f"db{os.getpid()}_{self._made}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "bespoke", name)
        return f"postgresql+psycopg://bespoke@127.0.0.1:{self.port}/{name}"

    def dump(self, url: str, file: Path) -> None:
        self._run(
            "pg_dump",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "bespoke",
            "-Fc",
            "-f",
            str(file),
            url.rsplit("/", 1)[1],
        )

    def restore(self, url: str, file: Path) -> None:
        name = url.rsplit("/", 1)[1]
        self._run(
            "pg_restore",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "bespoke",
            "-d",
            name,
            "--exit-on-error",
            str(file),
        )

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        folder = binaries()
        assert folder is not None
        account = _account() if os.geteuid() == 0 else None
        done = subprocess.run(
            [str(folder / program), *arguments],
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would be held open by the server itself
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            log = self.folder / "log"
            said = done.stderr.decode() if done.stderr else log.read_text()[-2000:] if log.exists() else ""
            raise RuntimeError(f"{program} ended with {done.returncode}: {said}")


@contextmanager
def server() -> Iterator[PostgresServer]:
    """A running server, gone with its folder at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bespoke-postgres-"))
    made = None
    try:
        made = PostgresServer(folder)
        made.start()
        yield made
    finally:
        if made is not None:
            made.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None
