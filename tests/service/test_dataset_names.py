"""The operator's data sets in the settings: each fault is one sentence, told when a process starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.dataset_names import registered
from service.settings import Settings, WrongSettings, read_settings, sentences

FAULTS = {
    '{"digits": "/data"}': "'digits' is the name of a built-in data set",
    '{"glyphs": "/data"}': "built-in",
    '{"a": "/x", "a": "/y"}': "'a' is there twice",
    '{"Parts": "/data"}': "'Parts' cannot be the name",
    '{"": "/data"}': "cannot be the name",
    '{"a": ""}': "the path of 'a' is missing",
    '{"a": null}': "the path of 'a' is missing",
    '{"a": ["/x"]}': "the path of 'a' is missing",
    '{"a": "~nobody-of-that-name/x"}': "no user of the path",
    '{"a": "/data"': "is no JSON",
    "/data/parts": "is no JSON",
    '["/data"]': "no JSON object of names and paths",
    "[]": None,
    '"a"': "no JSON object",
}


@pytest.mark.parametrize("text", [text for text, said in FAULTS.items() if said])
def test_a_fault_in_the_setting_is_one_sentence(monkeypatch, tmp_path, text):
    monkeypatch.setenv("BESPOKE_DATASETS", text)
    with pytest.raises(ValidationError) as caught:
        Settings()
    (said,) = sentences(caught.value)
    assert said.startswith("BESPOKE_DATASETS") and FAULTS[text] in said and "\n" not in said
    with pytest.raises(WrongSettings, match="BESPOKE_DATASETS"):
        read_settings(tmp_path)


def test_the_home_folder_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BESPOKE_DATASETS", json.dumps({"x": "~/data", "y": "here"}))
    assert Settings().datasets == {"x": tmp_path / "data", "y": Path.cwd() / "here"}
    monkeypatch.setenv("BESPOKE_DATASETS", "")
    assert Settings().datasets == {}


def test_a_mapping_is_taken_too(tmp_path):
    assert registered({"pets": tmp_path}) == {"pets": tmp_path}
    with pytest.raises(ValueError, match="built-in"):
        registered({"digits": tmp_path})


@pytest.mark.parametrize("module", ["service", "worker"])
def test_no_process_starts_with_a_name_that_is_taken(tmp_path, module):
    environment = {"BESPOKE_DATASETS": '{"digits": "/data"}', "BESPOKE_DATA_DIR": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", module], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "'digits' is the name of a built-in data set" in done.stderr
