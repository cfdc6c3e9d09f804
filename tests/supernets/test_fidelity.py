"""The benchmark prints what the acceptance reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import fidelity, fidelity_transformers

TRANSFORMERS = Path(__file__).resolve().parents[3] / "shared" / "data" / "hat_vectors.json.gz"
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


@pytest.mark.skipif(not TRANSFORMERS.exists(), reason="published vectors (../shared/data) are not here")
def test_a_file_of_transformers_is_known_by_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = fidelity.read_file(TRANSFORMERS)
    entry = data["spaces"]["small"]
    one = entry["vectors"][1]
    beam = {**one["beam"], "tokens": [[4, 2], *one["beam"]["tokens"][1:]]}
    changed = {**one, "parameters": one["parameters"] + 1, "beam": beam}
    fewer = tmp_path / "vectors.json"

    def printed(vectors: list[object]) -> dict[str, object]:
        fewer.write_text(json.dumps({"spaces": {"small": {**entry, "vectors": vectors}}}))
        monkeypatch.setattr("sys.argv", ["fidelity", "--vectors", str(fewer)])
        fidelity.main()
        return json.loads(capsys.readouterr().out)

    result = printed([one])
    assert result["worst"] <= 1e-4
    assert (result["parameters_equal"], result["beams_equal"], result["networks"]) == (True, True, 1)
    wrong = printed([one, changed])
    assert (wrong["parameters_equal"], wrong["beams_equal"], wrong["networks"]) == (False, False, 2)


@pytest.mark.skipif(not TRANSFORMERS.exists(), reason="published vectors (../shared/data) are not here")
def test_released_transformers_have_the_published_counts() -> None:
    data = fidelity.read_file(TRANSFORMERS)
    assert len(data["published"]) == 22
    assert fidelity_transformers.published_equal(data["published"], data["spaces"])
    wrong = [{**data["published"][0], "parameters": data["published"][0]["parameters"] + 1}]
    assert not fidelity_transformers.published_equal(wrong, data["spaces"])
