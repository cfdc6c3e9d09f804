"""The command line of the agent: codes, messages, and what a device must have installed."""

import subprocess
import sys

import pytest

from latency_tables.agent import environment, main
from latency_tables.agent.command import parser
from latency_tables.speed import MOST_LOAD


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """The load of the machine that runs the tests decides nothing."""
    monkeypatch.setattr(environment, "load", lambda: 0.1)


def test_needs_a_server():
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2


@pytest.mark.parametrize("url", ["ftp://x", "file:///etc/passwd", "x"])
def test_only_http(url, tmp_path, capsys):
    assert main(["--server", url, "--state-dir", str(tmp_path)]) == 1
    assert "http://" in capsys.readouterr().err


def test_no_token_no_state(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("BESPOKE_AGENT_TOKEN", raising=False)
    assert main(["--server", "http://127.0.0.1:9", "--state-dir", str(tmp_path)]) == 1
    assert "--token" in capsys.readouterr().err


def test_nobody_there_with_little_patience(tmp_path, capsys):
    argv = ["--server", "http://127.0.0.1:9", "--token", "t", "--state-dir", str(tmp_path), "--patience-s", "0"]
    assert main(argv) == 1
    assert "ConnectError" in capsys.readouterr().err


def test_f10_a_busy_device_is_refused_unless_that_is_allowed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(environment, "load", lambda: MOST_LOAD + 0.5)
    argv = ["--server", "http://127.0.0.1:9", "--token", "t", "--state-dir", str(tmp_path), "--patience-s", "0"]
    assert main(argv) == 7
    said = capsys.readouterr().err
    assert "2.5 runnable processes a core" in said and "--allow-load" in said
    assert main([*argv, "--allow-load"]) == 1
    assert "ConnectError" in capsys.readouterr().err


def test_the_help_names_every_option():
    text = parser().format_help()
    assert all(option in text for option in ("--server", "--token", "--state-dir", "--once", "--threads", "--allow-load"))


def test_the_agent_loads_neither_torch_nor_onnx_nor_the_web_framework():
    code = (
        "import sys, latency_tables.agent.command, latency_tables.agent.child, onnxruntime\n"
        "heavy = {'torch',"
        " 'onnx', 'fastapi', 'sqlalchemy', 'pydantic', 'scipy', 'matplotlib', 'yaml', 'supernets', 'service'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
