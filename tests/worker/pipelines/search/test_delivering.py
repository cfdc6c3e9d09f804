"""A delivered file is fed by what it says of itself, and does what its card says."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from latency_tables.inputs import InputSpec
from service.artifacts import ArtifactStore
from service.cli.models import delivery_lines
from service.cli.run_file import RunFailed, run, run_pictures
from supernets.data.catalog import load_for
from supernets.delivery.catalog import Delivery
from supernets.delivery.export import export_onnx, onnx_session
from supernets.delivery.feeding import predictions, snippet
from supernets.errors import InvalidPreprocessing
from supernets.network import Supernet
from supernets.spaces.catalog import space_named
from worker.compute.operations.deliver import deliver, measure_accuracy
from worker.compute.requests import Deliver, MeasureAccuracy, Places, SupernetRef

CLASSES = ("ant", "bee", "crow", "dog")
SPACE = space_named("cifar-mbv3").with_classes(len(CLASSES))
EACH = 250  # test pictures of a class


def draw(generator, number, path):
    """Waves of one direction for each class, of a size of its own; every fifth is a JPEG lying on its
    side."""
    width, height = generator.integers(24, 60, size=2)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    wave = 100 * np.sin(x * (number % 2) * 0.7 + y * (number // 2) * 0.5 + generator.uniform(0, 6))
    pixels = wave[..., None] + generator.normal(128, 30, size=(height, width, 3))
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if generator.integers(5):
        picture.save(path.with_suffix(".png"))
    else:
        exif = Image.Exif()
        exif[0x0112] = int(generator.choice([3, 6, 8]))
        picture.save(path.with_suffix(".jpg"), exif=exif)


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """(folder of pictures, places of the operations, an untrained supernet as jobs name it)."""
    home, generator = tmp_path_factory.mktemp("delivering"), np.random.default_rng(0)
    for split, count in (("train", 30), ("test", EACH)):
        for number, name in enumerate(CLASSES):
            (home / "set" / split / name).mkdir(parents=True)
            for index in range(count):
                draw(generator, number, home / "set" / split / name / f"{index:03}")
    weights = save(Supernet(SPACE, generator=torch.Generator().manual_seed(0)).state_dict())
    sha256, _ = ArtifactStore(home / "store").put(weights)
    places = Places(str(home / "store"), str(home / "data"), {"mine": str(home / "set")})
    return home, places, SupernetRef(SPACE.ref, "mine", sha256)


def delivered(life, form):
    """(what `deliver` says, the file's bytes, its accuracy on the test split)."""
    _, places, supernet = life
    network = SPACE.smallest(24)
    said = deliver(places, Deliver(supernet, network, form), lambda _: None)
    asked = MeasureAccuracy(supernet, network, said.onnx_sha256, form)
    test = measure_accuracy(places, asked, lambda _: None)
    return said, ArtifactStore(life[0] / "store").read(said.onnx_sha256), test


@pytest.mark.parametrize(
    "form", [Delivery(), Delivery(19, 9, "float32", 8, "embedded")], ids=["separate", "embedded"]
)
def test_fifteen_lines_fed_by_the_files_metadata_have_the_cards_accuracy_on_raw_pictures(
    life, form, tmp_path
):
    said, onnx, test = delivered(life, form)
    script, model = snippet(said.input), tmp_path / "m.onnx"
    assert len(script.splitlines()) <= 15 and max(map(len, script.splitlines())) <= 120
    (tmp_path / "run.py").write_text(script)
    model.write_bytes(onnx)
    pictures = sorted((life[0] / "set" / "test").rglob("*.*"))
    assert len(pictures) == test.samples == 1000
    call = [sys.executable, "-I", "-W", "error", str(tmp_path / "run.py"), str(model), *map(str, pictures)]
    lines = subprocess.run(call, check=True, capture_output=True, text=True).stdout.splitlines()
    named = [line.rpartition(" ")[2] for line in lines]
    right = np.mean([name == path.parent.name for name, path in zip(named, pictures, strict=True)])
    assert abs(right - test.accuracy) <= 0.001 and len(set(named)) > 1
    assert [one["class"] for one in run_pictures(onnx, pictures[::3])] == named[::3]

    dataset = load_for(SPACE, "mine", None, life[1].registered)
    images = dataset.test.images[:] if form.preprocessing == "embedded" else dataset.inputs("test", 24)
    assert [dataset.class_names[i] for i in predictions(onnx_session(onnx), images)] == named


def test_pictures_of_other_depths_and_alpha_are_run_and_the_script_stops_at_them(life, tmp_path):
    said, onnx, _ = delivered(life, Delivery())
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (40, 40), (200, 10, 10, 0)).save(tmp_path / "clear.png")
    (tmp_path / "m.onnx").write_bytes(onnx)
    (tmp_path / "run.py").write_text(snippet(said.input))
    for name in ("deep.png", "clear.png"):
        (line,) = run_pictures(onnx, [tmp_path / name])
        assert line["class"] in CLASSES and 0 < line["probability"] <= 1
        call = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "m.onnx"), str(tmp_path / name)]
        assert "8 bits" in subprocess.run(call, check=False, capture_output=True, text=True).stderr


def test_what_cannot_be_run_is_refused_with_the_reason(life, tmp_path):
    _, onnx, _ = delivered(life, Delivery())
    (tmp_path / "note.png").write_text("no picture")
    with pytest.raises(RunFailed, match="note.png"):
        run_pictures(onnx, [tmp_path / "note.png"])
    with pytest.raises(RunFailed, match="nowhere.png"):
        run_pictures(onnx, [tmp_path / "nowhere.png"])
    with pytest.raises(RunFailed, match="does not open"):
        run_pictures(b"no network", [])
    with pytest.raises(RunFailed, match="there is no file"):
        run(str(tmp_path / "m.onnx"), [])
    with pytest.raises(InvalidPreprocessing, match="does not say"):
        run_pictures(export_onnx(torch.nn.Conv2d(1, 1, 1), [InputSpec("input", (1, 2, 2))]), [])


def test_the_command_line_shows_what_is_not_known_and_what_is_suspect():
    card = {
        "state": "suspect",
        "suspect_reason": "measured 0.00% [of 50]",
        "file": {"remarks": ["tflite 2: try one"]},
    }
    assert [line.split("]")[0] for line in delivery_lines(card)] == ["[yellow", "[red"]
    assert "tflite 2" in delivery_lines(card)[0] and "0.00%" in delivery_lines(card)[1]
    assert delivery_lines({}) == []
