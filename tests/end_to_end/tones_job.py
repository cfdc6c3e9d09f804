"""A search job over the service with a space, a task and a data set of somebody else. Run in a process that finds their
distribution installed, as every process that it starts does: API, worker, the worker's child, agent.

`PYTHONPATH=tests/contracts/tones:. python -m tests.end_to_end.tones_job FOLDER`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from latency_tables.agent.runtimes.setup import Setup
from service.cli.demo import choose_budgets, tended, trained_id
from service.cli.local_agent import LocalAgent, ensure_device
from service.cli.profile import THIS_MACHINE, measure
from service.cli.screen import follow
from service.cli.supervisor import Stack
from service.client import BespokeClient, find_access

SPACE, DATASET = "tones", "two-tones"


def main(folder: Path) -> None:
    with (
        tended(Stack(folder, port=0, log_dir=folder / "logs")) as stack,
        BespokeClient.from_access(find_access(stack.url, data_dir=folder)) as service,
    ):
        ensure_device(service, THIS_MACHINE, Setup())
        with LocalAgent(service, THIS_MACHINE) as agent:
            measure(service, agent, THIS_MACHINE, SPACE, [256], 20)
            trained = follow(service, service.train_supernet(SPACE, DATASET, "trial", 0), "train")
            supernet = trained_id(trained.result)
            budget_ms = choose_budgets(service.front(supernet, THIS_MACHINE)["points"])["loose"]
            target = {
                "device": THIS_MACHINE,
                "budget": {"latency_ms": budget_ms},
                "exclude": {"top.kernel": [3]},
            }
            done = follow(service, service.search({"supernet": supernet, "targets": [target]}), "search")
        (entry,) = done.result["models"]
        service.download_model(entry["id"], folder / "network.onnx")
        (folder / "card.json").write_text(json.dumps(service.model(entry["id"])))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
