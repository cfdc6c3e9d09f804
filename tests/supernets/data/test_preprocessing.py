"""One definition of what happens between a file and a network's input: what a photographer saw is what the
network gets."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from supernets.data.preprocessing import Preprocessing, keep, picture_steps
from supernets.data.steps import STEPS, Depth, Interpolate, Normalise, interpolation
from supernets.errors import InvalidPreprocessing

EXAMPLES = {
    "orient": {},
    "depth": {"integers": [0, 4095], "floats": [-1, 1]},
    "flatten": {"background": 0},
    "convert": {"mode": "RGB"},
    "centre_square": {},
    "resize": {"height": 24, "width": 24},
    "normalise": {"mean": [1, 2, 3], "deviation": [4, 5, 6]},
    "interpolate": {"height": 20, "width": 20},
}


def preprocessing(channels=3, kept=24, size=20, depth=None):
    numbers = (Normalise((120.0,) * channels, (60.0,) * channels), Interpolate(size, size))
    return Preprocessing((*picture_steps(channels, kept, kept, depth), *numbers))


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=shape).astype(np.uint8)


def saved(picture, form, **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def kept(picture, channels=3, size=24, depth=None):
    return keep(picture, picture_steps(channels, size, size, depth))


@pytest.mark.parametrize("step", STEPS)
def test_every_step_survives_json(step):
    one = STEPS[step](**{k: tuple(v) if isinstance(v, list) else v for k, v in EXAMPLES[step].items()})
    steps = [dict(s) for s in preprocessing().to_json()["steps"]]
    place = [s["step"] for s in steps].index(step)
    steps[place] = {"step": step, **EXAMPLES[step]}
    read = Preprocessing.from_json(json.loads(json.dumps({"version": 1, "steps": steps})))
    assert read.steps[place] == one
    assert Preprocessing.from_json(json.loads(json.dumps(read.to_json()))) == read


def test_json_tells_a_reader_the_input():
    said = preprocessing(channels=1).to_json()
    assert {k: said[k] for k in ("layout", "dtype", "channel_order", "height", "width")} == {
        "layout": "NCHW",
        "dtype": "float32",
        "channel_order": "L",
        "height": 20,
        "width": 20,
    }


@given(height=st.integers(1, 60), width=st.integers(1, 60), size=st.integers(1, 40))
@settings(deadline=None, max_examples=25)
def test_any_picture_becomes_the_input(height, width, size):
    made = preprocessing(size=size)
    assert made.apply(Image.fromarray(pixels(height, width, 3))).shape == (3, size, size) == (3, *made.size)


@pytest.mark.parametrize(("before", "after"), [(8, 12), (12, 8), (32, 20), (224, 128), (5, 1)])
def test_interpolation_is_torchs_bilinear(before, after):
    values = np.random.default_rng(0).normal(size=(2, 3, before, before)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(values), size=(after, after), mode="bilinear", align_corners=False
    )
    assert Interpolate(after, after)(values) == pytest.approx(wanted.numpy(), abs=1e-5)
    assert interpolation(before, after).sum(axis=1) == pytest.approx(np.ones(after), abs=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed(orientation):
    """The eight ways a camera may store the same scene: all of them are the upright picture."""
    scene = np.zeros((40, 40, 3), np.uint8)
    scene[:20, :20], scene[:20, 20:], scene[20:, :20] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    upright = Image.fromarray(scene)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose by which a camera stores it
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(kept(saved(stored, "PNG", exif=exif)), kept(upright))


def test_16_bit_grey_keeps_its_shades():
    ramp = np.linspace(5140, 56283, 32 * 32).reshape(32, 32).astype(np.uint16)
    found = kept(saved(Image.fromarray(ramp), "PNG"), channels=1, size=32)
    assert (found.min(), found.max()) == (20, 219) and found.std() > 50
    assert np.abs(found[0].astype(float) - ramp / 257).max() <= 0.5


@pytest.mark.parametrize("mode", ["I", "F"])
def test_wide_modes_are_scaled_by_the_range_of_their_set(mode):
    ramp = np.linspace(-100, 300, 32 * 32).reshape(32, 32)
    picture = saved(Image.fromarray(ramp.astype(np.int32 if mode == "I" else np.float32)), "TIFF")
    assert picture.mode == mode
    found = kept(picture, channels=1, size=32, depth=Depth(integers=(-100, 300), floats=(-100, 300)))
    assert (found.min(), found.max()) == (0, 255)


def test_not_a_number_in_a_float_picture_becomes_the_range_s_ends():
    values = np.full((8, 8), np.nan, np.float32)
    values[0, 0] = np.inf
    found = kept(Image.fromarray(values), channels=1, size=8)
    assert found[0, 0, 0] == 255 and found[0, 4, 4] == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white(mode):
    """A hidden colour under full transparency is not what anybody sees."""
    colour = np.zeros((32, 32, 4), np.uint8)
    colour[..., 0], colour[:16, :, 3] = 255, 255
    above = Image.fromarray(colour)
    picture = above.convert("LA") if mode == "LA" else above.quantize(4) if mode == "P" else above
    found = kept(saved(picture, "PNG"), size=32)
    assert found[:, 31, 5].tolist() == [255, 255, 255] and found[2, 3, 5] < 100


def test_palette_bilevel_and_cmyk_are_their_colours():
    colours = np.zeros((32, 32, 3), np.uint8)
    colours[:16] = (250, 0, 0)
    drawn = Image.fromarray(colours)
    for picture in (saved(drawn.quantize(2), "GIF"), saved(drawn.convert("CMYK"), "TIFF")):
        assert np.abs(kept(picture, size=32).astype(int) - colours.transpose(2, 0, 1)).max() <= 6
    assert set(
        np.unique(kept(saved(drawn.convert("1", dither=Image.Dither.NONE), "PNG"), channels=1, size=32))
    ) <= {0, 255}


def test_the_centre_square_is_kept():
    wide = np.zeros((30, 90, 3), np.uint8)
    wide[:, 30:60] = 200
    assert kept(Image.fromarray(wide), size=30).min() == 200


def test_fine_structure_survives_at_the_kept_size():
    """Stripes of 6 pixels in a picture of 448: visible at 224, gone at 64."""
    stripes = np.tile(np.where(np.arange(448) % 6 < 3, 60, 190).astype(np.uint8), (448, 1))
    assert kept(Image.fromarray(stripes), channels=1, size=224).std() > 30
    assert kept(Image.fromarray(stripes), channels=1, size=64).std() < 15


def test_an_array_is_the_picture_it_holds():
    colour = pixels(30, 40, 3)
    assert np.array_equal(preprocessing().apply(colour), preprocessing().apply(Image.fromarray(colour)))
    grey = pixels(24, 24, 1)
    assert np.array_equal(preprocessing(1).keep(grey), grey.transpose(2, 0, 1))
    deep = pixels(24, 24).astype(np.uint16) * 257
    assert np.array_equal(preprocessing(1).keep(deep), (deep // 257)[None])


def test_the_kept_picture_and_its_numbers_make_the_input():
    made, picture = preprocessing(), Image.fromarray(pixels(50, 40, 3))
    bytes_kept = made.keep(picture)
    assert bytes_kept.dtype == np.uint8 and bytes_kept.shape == (3, *made.kept_size)
    batch = np.stack([bytes_kept, bytes_kept])
    assert np.array_equal(made.finish(batch)[1], made.apply(picture))


def test_a_script_with_numpy_and_pillow_alone_makes_the_same_input():
    """What a consumer writes from the JSON, without a line of this project."""
    picture = Image.fromarray(pixels(61, 47, 3))
    said = {step.pop("step"): step for step in json.loads(json.dumps(preprocessing().to_json()))["steps"]}
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.convert(said["convert"]["mode"]).crop((left, top, left + side, top + side))
    small = square.resize((said["resize"]["width"], said["resize"]["height"]), Image.Resampling.BILINEAR)
    values = (np.asarray(small, np.float32) - said["normalise"]["mean"]) / said["normalise"]["deviation"]
    before, after = small.width, said["interpolate"]["width"]
    places = (np.arange(after) + 0.5) * before / after - 0.5
    weights = np.stack([np.interp(places, np.arange(before), unit) for unit in np.eye(before)], axis=1)
    assert preprocessing().apply(picture) == pytest.approx(
        weights @ values.transpose(2, 0, 1) @ weights.T, abs=1e-5
    )


@pytest.mark.parametrize(
    "harm",
    [[], None, 5, "text", {}, {"version": 1}, {"version": 2, "steps": []}, {"version": 1, "steps": [1]}],
)
def test_what_is_no_preprocessing_is_refused(harm):
    with pytest.raises(InvalidPreprocessing):
        Preprocessing.from_json(harm)


@pytest.mark.parametrize(
    ("place", "step", "said"),
    [
        (1, {"step": "depth", "integers": [5, 5], "floats": [0, 1]}, "lower one first"),
        (3, {"step": "convert", "mode": "CMYK"}, "RGB or L"),
        (3, {"step": "convert", "mode": "L"}, "3 mean"),
        (5, {"step": "resize", "height": 0, "width": 5}, "whole numbers"),
        (5, {"step": "resize", "height": 5, "width": 5, "rule": "cubic"}, "has no rule"),
        (5, {"step": "warp"}, "unknown step 'warp'"),
        (5, {"step": "orient"}, "exactly one step 'resize'"),
        (6, {"step": "normalise", "mean": [1, 2, 3], "deviation": [1, 0, 1]}, "greater than 0"),
        (6, {"step": "normalise", "mean": [1, 2, 3], "deviation": [1]}, "one of each"),
        (7, {"step": "orient"}, "before steps on arrays"),
    ],
)
def test_steps_that_do_not_fit_are_named(place, step, said):
    data = preprocessing().to_json()
    data["steps"][place] = step
    with pytest.raises(InvalidPreprocessing, match=said):
        Preprocessing.from_json(data)


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 3, 2, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4), np.uint8), np.zeros(3, "U1")],
)
def test_an_array_that_is_no_picture_is_refused(array):
    with pytest.raises(InvalidPreprocessing, match="no picture"):
        preprocessing().apply(array)
    with pytest.raises(InvalidPreprocessing, match="1 or 3 channels"):
        picture_steps(2, 8, 8)
