"""Files are replaced whole or not at all."""

from __future__ import annotations

import os
import threading

import pytest

from latency_tables.files import sha256_of, whole


def test_a_file_is_there_with_the_end_of_the_block_and_for_its_owner_only(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("old")
    with whole(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["state.json"]
    assert sha256_of(path).startswith("11507a0e2f5e69d5")


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["state.json"]


def test_two_that_write_at_once_do_not_mix(tmp_path):
    path, barrier = tmp_path / "facts.json", threading.Barrier(2)

    def write(letter):
        with whole(path) as file:
            file.write(letter * 100)
            barrier.wait(30)
            file.write(letter * 100)
            barrier.wait(30)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in (b"a" * 200, b"b" * 200)
