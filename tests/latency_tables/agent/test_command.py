"""The command line of the agent: codes, messages, and what a device must have installed."""

import subprocess
import sys

import pytest

from latency_tables.agent import environment, main
from latency_tables.agent.command import parser
from latency_tables.agent.runtimes.probe import found


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
    argv = [
        "--server",
        "http://127.0.0.1:9",
        "--token",
        "t",
        "--state-dir",
        str(tmp_path),
        "--patience-s",
        "0",
    ]
    assert main(argv) == 1
    assert "ConnectError" in capsys.readouterr().err


def test_f10_a_busy_device_is_measured_and_refused_only_where_that_was_asked_for(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(environment, "load", lambda: 2.5)
    argv = [
        "--server",
        "http://127.0.0.1:9",
        "--token",
        "t",
        "--state-dir",
        str(tmp_path),
        "--patience-s",
        "0",
    ]
    assert main([*argv, "--max-load", "2"]) == 7
    said = capsys.readouterr().err
    assert "2.5 runnable processes a core" in said and "--max-load" in said
    assert main(argv) == 1
    assert "ConnectError" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["0", "-3", "inf", "1e9"])
def test_a_session_of_no_length_is_refused(tmp_path, capsys, given):
    argv = [
        "--server",
        "http://127.0.0.1:9",
        "--token",
        "t",
        "--state-dir",
        str(tmp_path),
        "--session-s",
        given,
    ]
    assert main(argv) == 1
    assert "--session-s" in capsys.readouterr().err


def test_the_length_of_sessions_is_read_from_the_environment_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BESPOKE_AGENT_SESSION_S", "soon")
    argv = ["--server", "http://127.0.0.1:9", "--token", "t", "--state-dir", str(tmp_path)]
    assert main(argv) == 1
    assert "BESPOKE_AGENT_SESSION_S" in capsys.readouterr().err


def test_the_help_names_every_option():
    text = parser().format_help()
    assert all(
        option in text
        for option in (
            "--server",
            "--token",
            "--state-dir",
            "--once",
            "--threads",
            "--session-s",
            "--max-load",
        )
    )


def test_the_agent_loads_neither_torch_nor_onnx_nor_the_web_framework():
    code = (
        "import sys, latency_tables.agent.command, latency_tables.agent.child, onnxruntime\n"
        "heavy = {'torch',"
        " 'onnx', 'fastapi', 'sqlalchemy', 'pydantic', 'scipy', 'matplotlib', 'yaml', 'supernets', "
        "'service'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--provider", "CUDAExecutionProvider"], "does not offer CUDAExecutionProvider"),
        (["--provider", "AzureExecutionProvider"], "computes nothing"),
        (["--provider", "a b"], "named by letters"),
        (["--provider-option", "device_id"], "name=value"),
        (["--provider-option", "a=1", "--provider-option", "a=2"], "twice"),
        (["--provider-option", "arena=1"], "no option arena"),
        (["--runtime", "openvino", "--provider", "GPU.7"], "no device GPU.7"),
        (["--runtime", "openvino", "--provider", "HETERO:CPU"], "one device"),
        (["--runtime", "openvino", "--provider-option", "NONSENSE=1"], "no option NONSENSE"),
        (
            ["--runtime", "openvino", "--provider-option", "ENABLE_CPU_PINNING=maybe"],
            "Expected only true/false",
        ),
        (["--runtime", "openvino", "--provider-option", "INFERENCE_NUM_THREADS=4"], "threads"),
        (["--threads", "0"], "whole numbers"),
        (["--batch-size", "70000"], "whole numbers"),
    ],
)
def test_what_the_runtime_cannot_do_is_said_before_the_service_is_asked(arguments, said, tmp_path, capsys):
    argv = [
        "--server",
        "http://127.0.0.1:9",
        "--token",
        "t",
        "--state-dir",
        str(tmp_path),
        "--patience-s",
        "0",
    ]
    assert main([*argv, *arguments]) == 8
    assert said in capsys.readouterr().err


def test_a_runtime_that_is_not_installed_is_said_with_what_to_install(tmp_path, capsys, monkeypatch):
    (tmp_path / "openvino.py").write_text(
        "raise ImportError('no such package')\n"
    )  # found first, as if nothing were there
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found.cache_clear()
    argv = [
        "--server",
        "http://127.0.0.1:9",
        "--token",
        "t",
        "--state-dir",
        str(tmp_path / "s"),
        "--patience-s",
        "0",
    ]
    try:
        assert main([*argv, "--runtime", "openvino", "--threads", "3"]) == 8
    finally:
        found.cache_clear()
    assert "pip install 'bespoke-nas[openvino]'" in capsys.readouterr().err


def test_an_unknown_runtime_or_precision_is_refused_with_those_there_are(capsys):
    for arguments, said in ((["--runtime", "tflite"], "onnxruntime"), (["--precision", "int3"], "float16")):
        with pytest.raises(SystemExit) as caught:
            main(["--server", "http://127.0.0.1:9", *arguments])
        assert caught.value.code == 2 and said in capsys.readouterr().err
