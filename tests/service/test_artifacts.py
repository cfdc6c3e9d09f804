"""The artifact store: what is under a SHA-256 has that SHA-256, whatever happened while it was written."""

import hashlib
import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.artifacts import ArtifactStore
from service.db.artifacts import register
from service.db.models import Artifact
from service.db.session import create_db_engine, session_factory
from service.errors import ArtifactCorrupt, ArtifactMissing
from service.failpoints import VARIABLE


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "artifacts")


def files(store):
    return sorted(p for p in store.root.rglob("*") if p.is_file())


@given(data=st.binary(max_size=4096))
@settings(max_examples=30, deadline=None)
def test_what_is_put_is_read(data, tmp_path_factory):
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    sha256, size = store.put(data)
    assert (sha256, size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert store.read(sha256) == data and store.verify(sha256) == len(data)


def test_put_copies_a_file_and_is_idempotent(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    first = store.put(source)
    written = store.path(first[0]).stat()
    assert store.put(source) == store.put(source.read_bytes()) == first
    assert store.path(first[0]).stat().st_mtime_ns == written.st_mtime_ns, "nothing is ever rewritten"
    assert source.exists() and len(files(store)) == 1


def test_files_are_private(store):
    sha256, _ = store.put(b"secret")
    assert store.path(sha256).stat().st_mode & 0o077 == 0
    assert store.root.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("flip", [0, 500, 999])
def test_d1_a_flipped_bit_is_never_served_and_putting_it_again_heals(store, flip):
    data = os.urandom(1000)
    sha256, _ = store.put(data)
    damaged = bytearray(data)
    damaged[flip] ^= 1
    store.path(sha256).write_bytes(damaged)
    with pytest.raises(ArtifactCorrupt):
        store.read(sha256)
    with pytest.raises(ArtifactCorrupt):
        store.verify(sha256)
    store.put(data)
    assert store.read(sha256) == data


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "/x", "%2e%2e"]
)
def test_only_a_sha256_names_a_file(store, name):
    with pytest.raises(ArtifactMissing):
        store.path(name)


def test_a_missing_file_is_named(store):
    with pytest.raises(ArtifactMissing):
        store.read("0" * 64)


WRITER = """
import sys
from pathlib import Path
from service.artifacts import ArtifactStore
ArtifactStore(Path(sys.argv[1])).put(b"y" * 200_000)
"""


@pytest.mark.parametrize(("place", "whole"), [("artifact.written", False), ("artifact.renamed", True)])
def test_d2_a_kill_while_writing_leaves_all_or_nothing(store, place, whole):
    environment = {**os.environ, VARIABLE: f"{place}:1:kill"}
    killed = subprocess.run([sys.executable, "-c", WRITER, str(store.root)], env=environment, check=False)
    assert killed.returncode == -9
    sha256 = hashlib.sha256(b"y" * 200_000).hexdigest()
    assert store.path(sha256).exists() is whole
    if whole:
        assert store.read(sha256) == b"y" * 200_000
    store.put(b"y" * 200_000)
    assert store.read(sha256) == b"y" * 200_000
    for left in store.root.glob(".tmp-*"):
        os.utime(left, (time.time() - 100,) * 2)
    removed = store.sweep({sha256}, older_than_s=60)
    assert len(removed) == (0 if whole else 1)
    assert files(store) == [store.path(sha256)]


def test_a_full_disk_leaves_nothing(store):
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n" + WRITER
    )
    failed = subprocess.run(
        [sys.executable, "-c", code, str(store.root)], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1 and "OSError" in failed.stderr
    assert files(store) == []


def test_d3_sweep_keeps_what_is_referenced_or_young(store):
    kept, old, young = (store.put(data)[0] for data in (b"kept", b"old", b"young"))
    for sha256 in (kept, old):
        os.utime(store.path(sha256), (time.time() - 1000,) * 2)
    assert store.sweep({kept}, older_than_s=500) == [store.path(old)]
    assert sorted(store.stored()) == sorted([kept, young])
    assert store.sweep({kept}, older_than_s=500) == [], "a second sweep finds nothing"


def test_two_sweepers_and_many_writers_do_not_disturb_each_other(store):
    errors = []

    def work(number):
        try:
            for i in range(30):
                sha256, _ = store.put(f"{number % 2}-{i}".encode())
                assert store.read(sha256)
                store.sweep({sha256}, older_than_s=3600)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and len(list(store.stored())) == 60


def test_rows_are_registered_once(database_url, store):
    engine = create_db_engine(database_url)
    sessions = session_factory(engine)
    sha256, size = store.put(b"row")
    for _ in range(2):
        with sessions.begin() as session:
            register(session, sha256, size, "onnx_model")
    with sessions() as session:
        row = session.get(Artifact, sha256)
        assert row is not None and (row.size_bytes, row.kind) == (3, "onnx_model")
    engine.dispose()
