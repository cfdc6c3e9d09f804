"""The benchmark prints what the acceptance reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import fidelity

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "data" / "once_for_all_vectors.json.gz"


@pytest.mark.skipif(not VECTORS.exists(), reason="published vectors (../shared/data) are not here")
def test_prints_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = fidelity.read_vectors(VECTORS)["ofa-mbv3-w1.0"]
    fewer = tmp_path / "vectors.json"
    one = {**entry["vectors"][1], "parameters": entry["vectors"][1]["parameters"] + 1}
    fewer.write_text(
        json.dumps({"spaces": {"ofa-mbv3-w1.0": {**entry, "vectors": [entry["vectors"][1], one]}}})
    )
    monkeypatch.setattr("sys.argv", ["fidelity", "--vectors", str(fewer)])
    fidelity.main()
    result = json.loads(capsys.readouterr().out)
    assert result["worst"] <= 1e-3
    assert result["networks"] == 2
    assert result["parameters_equal"] is False  # one count in the file is wrong on purpose
    assert result["environment"]["torch"]
