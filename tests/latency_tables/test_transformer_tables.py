"""Additive tables of transformers: what was built in is found again, and HAT's own devices are predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import hat_latency
from latency_tables.errors import InvalidTable, TooFewNetworks
from latency_tables.formats.hat_csv import TransformerProbe
from latency_tables.prediction.transformers import (
    DECODER_LINES,
    ENCODER_LINES,
    fit_transformers,
    lines_of,
)

MEASURED = Path(__file__).resolve().parents[3] / "shared" / "data" / "hat"
with_files = pytest.mark.skipif(
    not MEASURED.exists(), reason="HAT's measurements (../shared/data) are not here"
)
ENCODER = {512: np.array([6.0, 0.9, 0.05]), 640: np.array([7.0, 1.1, 0.05])}
DECODER = {512: np.array([30.0, 25.0, 2.0, 0.3, 0.0, 1.0]), 640: np.array([33.0, 28.0, 2.5, 0.3, 0.0, 1.2])}


def measured(
    networks: int, *, noise: float = 0.0, seed: int = 0, widths: tuple[int, ...] = (512, 640)
) -> list[TransformerProbe]:
    """Networks of HAT's space on a device that is a sum over layers."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(networks):
        layers, deep = 6, int(generator.integers(1, 7))
        inside = generator.choice([1024, 2048, 3072], layers).mean()
        features = (
            *(int(generator.choice(widths)), layers, inside, generator.choice([4, 8], layers).mean()),
            *(int(generator.choice(widths)), deep, generator.choice([1024, 2048, 3072], deep).mean()),
            *(generator.choice([4, 8], deep).mean(), generator.choice([4, 8], deep).mean()),
            generator.choice([1, 2, 3], deep).mean(),
        )
        bare = TransformerProbe(tuple(float(f) for f in features), 1.0, 1.0)
        encoder, decoder = lines_of([bare])
        factor = float(np.exp(generator.normal(0, noise))) if noise else 1.0
        found.append(
            TransformerProbe(
                bare.features,
                float(encoder[0] @ ENCODER[features[0]]) * factor,
                float(decoder[0] @ DECODER[features[4]]) * factor,
            )
        )
    return found


def relative(probes: list[TransformerProbe], known: list[TransformerProbe]) -> np.ndarray:
    return np.abs(fit_transformers(known).predict(probes) / [p.latency_ms for p in probes] - 1)


def test_a_device_that_is_a_sum_is_found_from_fifty_networks() -> None:
    assert relative(measured(200, seed=1), measured(50)).max() < 0.005


def test_noise_is_averaged_out_and_said() -> None:
    known = measured(60, noise=0.04)
    table = fit_transformers(known)
    assert relative(measured(200, seed=1), known).mean() < 0.025
    assert table.calibration.networks == 60 and len(table.calibration.ratios) == 60
    assert 0.02 < table.calibration.error < 0.06  # of networks that were left out, noise included
    # Within a factor of their noise, nine of ten networks: the bound is theirs.
    assert np.mean([0.9 < ratio < 1.1 for ratio in table.calibration.ratios]) > 0.9


def test_no_line_falls_and_every_width_has_its_own() -> None:
    table = fit_transformers(measured(80, noise=0.1))
    assert (table.encoder_widths, table.decoder_widths) == ((512, 640), (512, 640))
    assert table.encoder_ms.shape == (2, len(ENCODER_LINES))
    assert table.decoder_ms.shape == (2, len(DECODER_LINES))
    assert (table.encoder_ms >= 0).all() and (table.decoder_ms >= 0).all()


def test_a_few_networks_of_a_busy_device_spoil_nothing() -> None:
    known = measured(60, noise=0.01)
    for number in (3, 17, 40):
        busy = known[number]
        known[number] = TransformerProbe(busy.features, busy.encoder_ms * 4, busy.decoder_ms * 4)
    assert relative(measured(200, seed=1), known).mean() < 0.02


def test_one_width_is_enough_but_another_is_not_guessed() -> None:
    table = fit_transformers(measured(40, widths=(512,)))
    with pytest.raises(InvalidTable, match=r"no encoder of width 640 was measured; known are \[512\]"):
        table.predict(measured(20, widths=(640,)))


def test_error_and_bound_may_be_of_networks_that_were_held_out() -> None:
    table = fit_transformers(measured(60))
    noisy = table.held_out(measured(200, noise=0.05, seed=3))
    assert noisy.calibration.networks == 60 and len(noisy.calibration.ratios) == 200
    assert noisy.calibration.error == pytest.approx(0.04, abs=0.01)
    assert 1.05 < noisy.calibration.margin(0.95) < 1.15


def test_too_few_networks_say_how_many_are_missing() -> None:
    with pytest.raises(TooFewNetworks, match="at least 20") as failed:
        fit_transformers(measured(13))
    assert failed.value.missing == 7


@with_files
@pytest.mark.parametrize(
    ("file", "most"),
    [("wmt14ende_cpu_xeon", 0.06), ("wmt14ende_gpu_titanxp", 0.08), ("wmt14enfr_cpu_raspberrypi", 0.008)],
)
def test_hats_own_devices_from_fifty_networks(
    file: str, most: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(MEASURED / f"{file}_all.csv.gz")
    monkeypatch.setattr(
        "sys.argv", ["hat_latency", "--data", data, "--train", "50", "--perceptron-splits", "0"]
    )
    hat_latency.main()
    result = json.loads(capsys.readouterr().out)
    assert result["mape"] <= most
    assert (
        result["ridge_mape"] < result["ridge_mape_same_networks"] / 2
    )  # 66 terms need more than 50 networks
    assert result["mape"] < result["ridge_mape_same_networks"] / 2


@pytest.mark.slow
@with_files
def test_hats_recipe_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of its 5,000 steps, at its learning rate: better than the mean is not to be asked of them."""
    probes = hat_latency.read(MEASURED / "wmt14enfr_cpu_raspberrypi_all.csv.gz")
    few, more = (
        hat_latency.held_out_error(
            probes, lambda k, a, s, n=n: hat_latency.perceptron(k, a, s, n), 300, 0, 1
        )[0]
        for n in (100, 400)
    )
    assert more < few


@with_files
@pytest.mark.parametrize("train", ["0", "1801"])
def test_rows_that_are_not_there_are_refused(train: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = str(MEASURED / "wmt14ende_cpu_xeon_all.csv.gz")
    monkeypatch.setattr("sys.argv", ["hat_latency", "--data", data, "--train", train])
    with pytest.raises(SystemExit):
        hat_latency.main()
