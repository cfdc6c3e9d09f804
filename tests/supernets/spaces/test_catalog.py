"""The spaces of the seed systems are the published ones: counts, widths, choices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supernets.spaces.architecture import Architecture, StageChoice
from supernets.spaces.catalog import SPACES, register_space, space_named
from supernets.spaces.choices import ZERO, Choice
from supernets.spaces.lowering import all_operators, lower
from supernets.spaces.space import Space, Stage, pictures

# The published count of ofa-resnet50 is 2 * 3**6 * 117**3 * 1053. It counts the multipliers 0.65 and 0.8
# apart inside the
# stem, where both round to 24 channels: the published vectors agree (tests/supernets/test_published_weights.py).
RESNET_PUBLISHED = 2 * 3**6 * 117**3 * 1053

COUNTS = {
    "digits-mbv3": (9 + 9**2 + 9**3) ** 3,
    "cifar-mbv3": (9 + 9**2 + 9**3) ** 3,
    "ofa-mbv3": 7371**5,
    "ofa-mbv3-w1.2": 7371**5,
    "ofa-proxyless": 7371**5 * 9,
    "ofa-resnet50": RESNET_PUBLISHED * 2 // 3,
    "proxyless": 6**6 * 7**15,
}


@pytest.mark.parametrize("name", COUNTS)
def test_count_of_distinct_sub_networks(name: str) -> None:
    space = SPACES[name]
    assert space.count() == COUNTS[name] * len(space.resolutions)
    assert space.at(space.resolutions[:1]).count() == COUNTS[name]


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("ofa-mbv3", [16, 16, 24, 40, 80, 112, 160, 960, 1000]),
        ("ofa-mbv3-w1.2", [24, 24, 32, 48, 96, 136, 192, 1152, 1000]),
        ("ofa-proxyless", [40, 24, 32, 56, 104, 128, 248, 416, 1664, 1000]),
        ("proxyless", [32, 16, 24, 40, 80, 96, 192, 320, 1280, 1000]),
    ],
)
def test_published_widths(name: str, widths: list[int]) -> None:
    assert [stage.widths[-1] for stage in SPACES[name].stages] == widths


def test_feature_layers_and_batch_norm_are_the_published_ones() -> None:
    assert [
        SPACES[name].stages[-1].settings["feature_channels"]
        for name in ("ofa-mbv3", "ofa-mbv3-w1.2", "ofa-proxyless")
    ] == [
        1280,
        1536,
        0,
    ]
    assert SPACES["ofa-proxyless"].batch_norm_eps == SPACES["proxyless"].batch_norm_eps == 1e-3
    assert SPACES["ofa-mbv3"].batch_norm_eps == SPACES["ofa-resnet50"].batch_norm_eps == 1e-5


def test_resnet_has_elastic_widths_and_a_skippable_stem_convolution() -> None:
    space = SPACES["ofa-resnet50"]
    assert [stage.widths for stage in space.stages[:3]] == [(24, 32), (40, 48, 64), (168, 208, 256)]
    small, large = lower(space, space.smallest(128)), lower(space, space.largest(128))
    assert [op.family for op in small[:3]] == ["conv", "conv", "maxpool"]
    assert [(op.family, op.residual) for op in large[:4]] == [
        ("conv", False),
        ("conv", True),
        ("conv", False),
        ("maxpool", False),
    ]
    assert sum(op.family == "bottleneck" for op in small) == 10
    assert sum(op.family == "bottleneck" for op in large) == 18
    assert all(op.stride == 1 or op.in_height in (32, 16, 8) for op in small if op.family == "bottleneck")


def test_proxyless_has_21_blocks_and_zero_in_15_of_them() -> None:
    blocks = [
        options for stage in SPACES["proxyless"].stages for options in stage.choices if len(options) > 1
    ]
    assert len(blocks) == 21
    assert sum(ZERO in options for options in blocks) == 15
    assert {len(options) for options in blocks if ZERO not in options} == {6}


def test_ofa_mbv3_has_96_table_rows_or_fewer_per_resolution() -> None:
    assert len(all_operators(SPACES["ofa-mbv3"], 224)) == 94


def test_equal_choices_have_one_digest() -> None:
    space = SPACES["digits-mbv3"]
    architecture = space.largest()
    stages = tuple(
        StageChoice(s.width, tuple(Choice(kernel=c["kernel"], expand=float(c["expand"])) for c in s.blocks))
        for s in architecture.stages
    )
    assert Architecture(space.name, architecture.resolution, stages).digest == architecture.digest


def test_a_taken_name_is_refused_and_the_same_space_is_not() -> None:
    space = space_named("digits-mbv3")
    assert register_space(space) is space
    with pytest.raises(ValueError, match="another name"):
        register_space(replace(space, description="not the same"))
    assert SPACES["digits-mbv3"] is space


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolutions": (16, 8)}, "ascend"),
        ({"classes": 11}, "head"),
        ({"stages": SPACES["digits-mbv3"].stages[:-1]}, "head"),
        ({"stages": SPACES["digits-mbv3"].stages[:1] * 2 + SPACES["digits-mbv3"].stages[-1:]}, "names"),
    ],
)
def test_spaces_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPACES["digits-mbv3"], **change)


def test_zero_is_refused_where_the_input_cannot_pass() -> None:
    head = Stage("head", "head", (10,), settings={"activation": "none"})
    options = ((Choice(kernel=3, expand=3), ZERO),)
    with pytest.raises(ValueError, match="Zero"):
        Space("x", "", (8,), pictures(3), 10, (Stage("one", "mbconv", (16,), choices=options), head), "")
