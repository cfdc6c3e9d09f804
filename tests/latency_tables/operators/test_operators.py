"""The operator key: its text reads back, its fields check themselves, its counts match built networks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_tables.errors import InvalidOperator
from latency_tables.operators import ACTIVATIONS, Operator, make_divisible
from latency_tables.operators.catalog import FAMILIES
from latency_tables.operators.operator import PRECISIONS

sizes = st.integers(1, 4096)
# Families of sentences have fields of their own: the contract suite of families reads their texts back.
OF_PICTURES = sorted(name for name, family in FAMILIES.items() if "in_height" in family.__dataclass_fields__)


@st.composite
def operators(draw: st.DrawFn) -> Operator:
    family = draw(st.sampled_from(["dequantize", "quantize", *OF_PICTURES]))
    if family in ("quantize", "dequantize"):
        return FAMILIES[family]("x".join(str(size) for size in draw(st.lists(sizes, min_size=1, max_size=3))))
    channels, out, stride = draw(sizes), draw(sizes), draw(st.integers(1, 2))
    mid = draw(sizes) if family in ("mbconv", "bottleneck", "head") else 0
    residual = family == "bottleneck" or (draw(st.booleans()) and stride == 1 and channels == out)
    return FAMILIES[family](
        in_height=draw(sizes),
        in_width=draw(sizes),
        in_channels=channels,
        out_channels=out,
        kernel=draw(st.sampled_from((1, 3, 5, 7))),
        stride=stride,
        mid_channels=mid,
        residual=residual,
        squeeze_excite=draw(st.booleans()),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        groups=mid if family == "mbconv" else 1,
        precision=draw(st.sampled_from(PRECISIONS)),
    )


@given(operators())
def test_text_reads_back(operator):
    assert Operator.parse(operator.text) == operator


@given(operators(), operators())
def test_two_operators_never_share_a_text(one, other):
    assert (one == other) == (one.text == other.text)


@given(st.text(max_size=80))
def test_any_other_text_is_refused(text):
    with pytest.raises(InvalidOperator):
        Operator.parse(text)


GOOD = "mbconv/in=14x14x80/out=80/kernel=5/stride=1/mid=480/residual=1/se=0/act=hswish/groups=480"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mbconv", "mbconw"),
        ("=80/kernel", "=080/kernel"),
        ("14x14x80", "14x14"),
        ("mid=480", "mid=6"),
        ("mid=480", "mid=0"),
        ("residual=1", "residual=2"),
        ("stride=1", "stride=2"),
        ("act=hswish", "act=gelu"),
        ("kernel=5", "kernel=0"),
        ("kernel=5", "kernel=99999"),
        ("groups=480", "groups=480 "),
        ("groups=480", "groups=480\n"),
        ("kernel=5", "kernel=٥"),
    ],
)
def test_damaged_text_is_refused(old, new):
    assert Operator.parse(GOOD).text == GOOD
    with pytest.raises(InvalidOperator):
        Operator.parse(GOOD.replace(old, new, 1))


def test_counts_of_a_known_block():
    operator = Operator.parse(
        "mbconv/in=8x8x16/out=16/kernel=3/stride=1/mid=64/residual=1/se=1/act=relu/groups=64"
    )
    hidden = 16
    assert operator.macs == 64 * (16 * 64 + 64 * 9 + 64 * 16) + 2 * 64 * hidden
    assert operator.parameters == (16 * 64 + 64) + (64 * 9 + 64) + (2 * 64 * hidden + hidden + 64) + (
        64 * 16 + 16
    )


@pytest.mark.parametrize("shape", ["", "0x2", "02", "2x", "x2", "2X2", "65537", "12345x12345x12345"])
def test_what_is_no_shape_is_refused(shape):
    for family in ("quantize", "dequantize"):
        assert Operator.parse(f"{family}/in=16x24x24").output_shape == (16, 24, 24)
        with pytest.raises(InvalidOperator):
            Operator.parse(f"{family}/in={shape}")
        with pytest.raises(InvalidOperator):
            FAMILIES[family](shape)


@given(st.floats(1, 1e5))
def test_make_divisible_never_loses_a_tenth(value):
    rounded = make_divisible(value)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * value
    assert abs(rounded - value) <= 12 or rounded <= 1.1 * value + 8
