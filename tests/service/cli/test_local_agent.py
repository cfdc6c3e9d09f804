"""What `bespoke profile` says of its own agent where the service does not hear it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from service.cli.local_agent import LocalAgent
from service.cli.screen import JobProgress
from service.client import Job
from tests.service.api import CONTEXT
from tests.service.cli.conftest import Server

WAITING = Job(
    id="1",
    kind="profile",
    state="running",
    step="measure",
    fraction=0.0,
    message="0 of 48 measured; no agent is running on prox: start one there with `bespoke agent`",
    eta_s=None,
    error=None,
    result={},
    raw={},
)


def test_the_profile_shows_the_last_words_of_an_agent_that_reaches_nothing(server: Server) -> None:
    with server.client() as service:
        service.add_device("prox", CONTEXT)
        # where the agent is told to look; the client itself goes on asking the server
        service.url = "http://127.0.0.1:9"
        with LocalAgent(service, "prox") as agent:
            end = time.monotonic() + 60
            while "away" not in agent.last_words() and time.monotonic() < end:
                time.sleep(0.1)
            remark = agent.remark(WAITING)
            assert "the service is away (ConnectError)" in remark and "start one there" not in remark
            assert agent.remark(replace(WAITING, message="measured 3 of 48 on prox")) == ""


def test_a_remark_takes_the_place_of_the_message_and_a_new_one_is_shown_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with JobProgress("profile prox") as bar:
        bar.update(WAITING, "the agent said one")
        bar.update(WAITING, "the agent said one")
        bar.update(WAITING, "the agent said two")
    lines = capsys.readouterr().err.splitlines()
    assert [("one" in line, "two" in line) for line in lines] == [(True, False), (False, True)]
    assert not any("start one there" in line for line in lines)
