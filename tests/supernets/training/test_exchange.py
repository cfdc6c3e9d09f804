"""What two processes of one training send each other: they end with one network whatever the exchange, and one
that is alone says so."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from supernets.data.catalog import load_dataset
from supernets.data.splits import Split
from supernets.errors import InvalidTraining, RankLost, TrainingDiverged
from supernets.spaces.catalog import space_named
from supernets.training import parallel
from supernets.training.checkpoint import load_checkpoint
from supernets.training.exchange import Link
from supernets.training.loop import Trainer, TrainingStopped
from supernets.training.recipe import Phase, Recipe
from supernets.training.sharing import Sharing
from supernets.training.spec import TrainingSpec

RECIPE = Recipe("two epochs", "for a test", (Phase("all", 2, 4e-3),), batch_size=32, optimiser="adamw")
SGD = replace(RECIPE, optimiser="sgd", phases=(Phase("all", 2, 0.05),))
SHARED = {
    "delayed": (RECIPE, Sharing("delayed", 2)),
    "sparse": (SGD, Sharing(top=0.01)),
}


class Killed(Exception):
    """The process ends here."""


class Spoilt(Trainer):
    """Its loss is no number at the second step, on rank 1 only."""

    def backward(self, phase, batch, step, networks=None):
        loss = super().backward(phase, batch, step, networks)
        return loss * float("nan") if self.rank == 1 and step == 1 else loss


class Leaving(Trainer):
    """Rank 1 is gone in the second epoch."""

    def backward(self, phase, batch, step, networks=None):
        if self.rank == 1 and self.position.epoch == 1 and self.position.batch == 1:
            os._exit(9)
        return super().backward(phase, batch, step, networks)


def training(name, kind=Trainer, link=None):
    recipe, sharing = SHARED[name]
    space = space_named("digits-mbv3").at([8])
    return kind(space, few(), recipe, 0, sharing=sharing, link=link)


def few():
    """Digits, five steps an epoch."""
    data = load_dataset("digits")
    return replace(data, train=Split(data.train.images[:160], data.train.labels[:160]))


def flat(trainer):
    return torch.cat([value.flatten().float() for value in trainer.supernet.state_dict().values()])


def same_on_both(values):
    mean = values.clone()
    Link().sum(mean)
    return bool(torch.equal(mean, 2 * values))


def whole_and_resumed(name, folder):
    """Two epochs at once, and again with a kill after the first."""
    whole = training(name)
    whole.run(folder / f"{name}-whole")

    def end(progress):
        if progress.fraction < 1 and "step" in progress.message and cut.position.epoch == 1:
            raise Killed

    cut, resumed = training(name), training(name)
    with suppress(Killed):
        cut.run(folder / f"{name}-cut", end)
    resumed.run(folder / f"{name}-cut")
    return {
        "one network": same_on_both(flat(whole)),
        "resumed": bool(torch.equal(flat(whole), flat(resumed))),
        "moved": not torch.equal(flat(whole), flat(training(name))),
        "sent": whole.exchange.link.sent_bytes,
    }


def stopped_by_the_other(folder):
    asked = training("delayed")
    try:
        asked.run(folder / "stopped", stopping=lambda: asked.rank == 1)
    except TrainingStopped:
        return asked.position.step + asked.position.batch
    return None


def diverged(folder):
    try:
        training("delayed", Spoilt).run(folder / "spoilt")
    except TrainingDiverged as error:
        return error.epoch
    return None


def disagreeing(rank):
    spec = TrainingSpec("digits-mbv3", "digits", seed=rank)
    try:
        parallel.check_agreement(spec.digest)
    except InvalidTraining as error:
        return str(error)
    return None


def lagged():
    """Seconds of a sum over a slow link, and of work while one is under way."""
    values, slow = torch.ones(1000), Link(latency_s=0.1, bytes_per_s=1e6)
    parallel.wait_for_all()
    begun = time.monotonic()
    slow.sum(values)
    at_once = time.monotonic() - begun
    begun = time.monotonic()
    pending = slow.begin_sum(values)
    time.sleep(0.3)
    between = time.monotonic()
    pending.wait()
    return {"at once": at_once, "waited": time.monotonic() - between, "sent": slow.sent_bytes}


def lost(folder):
    try:
        training("delayed", Leaving).run(folder / "lost")
    except RankLost as error:
        return str(error)
    return None


def one_rank(folder):
    torch.set_num_threads(1)
    parallel.join("cpu")
    rank = parallel.rank_and_size()[0]
    seen = {name: whole_and_resumed(name, folder) for name in SHARED}
    seen["stopped"] = stopped_by_the_other(folder)
    parallel.wait_for_all()
    seen["diverged"] = diverged(folder)
    parallel.wait_for_all()
    seen["disagreeing"] = disagreeing(rank)
    seen["lagged"] = lagged()
    (folder / f"rank-{rank}.json").write_text(json.dumps(seen))
    seen["lost"] = lost(folder)  # the other one is gone after that
    (folder / f"rank-{rank}.json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes saw, and their folder."""
    folder = tmp_path_factory.mktemp("exchange")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [one.communicate(timeout=300)[1] for one in started]
    finally:
        for one in started:
            one.kill()
    assert [one.returncode for one in started] == [0, 9], said[0][-3000:] + said[1][-3000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)], folder


@pytest.mark.parametrize("name", SHARED)
def test_processes_end_with_one_network_that_a_resumed_training_has_too(ranks, name):
    for seen in ranks[0]:
        assert seen[name]["moved"] and seen[name]["one network"] and seen[name]["resumed"]


def test_few_large_gradients_are_few_bytes(ranks):
    steps, parameters = 2 * training("sparse").steps_per_epoch, training("sparse").gradients.buffer.numel()
    # 25 % in the first epoch and 6.25 % in the second, six bytes each; at the ends of epochs everything.
    assert ranks[0][0]["sparse"]["sent"] < 0.3 * 6 * steps * parameters + 2 * 3 * 4 * 1.1 * parameters


def test_a_stop_and_a_loss_that_is_no_number_reach_both_in_the_same_step(ranks):
    stopped = [seen["stopped"] for seen in ranks[0]]
    assert (
        stopped[0] == stopped[1] == 4
    )  # asked in the first step, sent with the second, there with the fourth
    assert [seen["diverged"] for seen in ranks[0]] == [1, 1]
    assert not list((ranks[1] / "spoilt").glob("checkpoint-*"))


def test_processes_of_other_settings_are_refused_by_number(ranks):
    for seen in ranks[0]:
        assert "process 1 another one than process 0" in seen["disagreeing"]


def test_a_slow_link_takes_its_time_only_from_those_who_wait(ranks):
    for seen in ranks[0]:
        found = seen["lagged"]
        assert found["at once"] >= 0.2 and found["waited"] < 0.1
        assert found["sent"] == 2 * 4000


def test_who_is_left_alone_says_so_and_the_last_epoch_is_kept(ranks):
    assert "gone or did not answer" in ranks[0][0]["lost"]
    kept = load_checkpoint(ranks[1] / "lost")
    assert kept.state["position"]["epoch"] == 1 and kept.state["position"]["batch"] == 0


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"sync": "seldom"}, "every, delayed"),
        ({"sync": "delayed", "delay": 0}, "from 1 to 1000"),
        ({"top": 0.0}, "above 0"),
        ({"top": 0.01, "sync": "delayed"}, "goes with sync every"),
        ({"speed": 1}, "not settings"),
    ],
    ids=["sync", "delay", "top", "both", "unknown"],
)
def test_settings_that_mean_nothing_are_refused(values, why):
    with pytest.raises(InvalidTraining, match=why):
        Sharing.from_json(values)


def test_what_changes_no_weights_changes_no_digest():
    plain = TrainingSpec("digits-mbv3", "digits")
    assert replace(plain, distributed={"sync": "every", "delay": 5}).digest == plain.digest
    delays = {replace(plain, distributed={"sync": "delayed", "delay": d}).digest for d in (4, 8)}
    assert len(delays | {plain.digest}) == 3


def test_the_largest_gradients_need_the_momentum_of_sgd():
    with pytest.raises(InvalidTraining, match="take the recipe sgd"):
        Trainer(
            space_named("digits-mbv3").at([8]), load_dataset("digits"), RECIPE, 0, sharing=Sharing(top=0.01)
        )


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]))
