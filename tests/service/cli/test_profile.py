"""What `bespoke profile` says of a device that cannot run everything."""

from __future__ import annotations

import pytest

from service.cli.profile import NAMED, say_unable

REASON = "OpenVINO cannot prepare a network for CPU: [cpu]reorder: unsupported reorder case"


def unable(count: int) -> list[dict[str, object]]:
    return [{"operator": f"conv/in=8x8x{i}", "architecture": None, "reason": REASON} for i in range(count)]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_rows_that_cannot_be_had_are_named_with_why_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_unable("ov", unable(2))
    text = said(capsys)
    assert f"cannot run conv/in=8x8x0: {REASON}" in text and "conv/in=8x8x1" in text
    assert "the table of ov lacks 2 rows" in text and "--exclude-missing" in text


def test_a_long_list_is_cut_and_says_where_the_rest_is(capsys: pytest.CaptureFixture[str]) -> None:
    say_unable("ov", unable(NAMED + 5))
    text = said(capsys)
    assert text.count("cannot run") == NAMED and "and 5 more, under `cannot_run` of the job" in text


def test_a_whole_network_is_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    say_unable("ov", [{"operator": None, "architecture": {}, "reason": REASON}])
    text = said(capsys)
    assert f"cannot run a whole network: {REASON}" in text and "lacks" not in text


def test_nothing_is_said_where_everything_ran(capsys: pytest.CaptureFixture[str]) -> None:
    say_unable("ov", [])
    assert said(capsys) == ""
