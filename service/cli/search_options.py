"""Options of `bespoke search`, in the groups that its help shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

_WANTED: Final = "What is wanted"
_CHOICES: Final = "What may be chosen"
_SOURCE: Final = "What it is cut from"
_WAY: Final = "How it is searched"
_RESULT: Final = "What is delivered"

Device = Annotated[str | None, typer.Option(help="Name of a registered device.", rich_help_panel=_WANTED)]
BudgetMs = Annotated[
    float | None,
    typer.Option(help="Latency budget on that device, in milliseconds.", rich_help_panel=_WANTED),
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DEVICE=MS",
        help="A device and its budget; several times. DEVICE=MS+DEVICE=MS: one network for all.",
        rich_help_panel=_WANTED,
    ),
]
P95Ms = Annotated[
    float | None,
    typer.Option(
        help="Budget that 19 runs in 20 keep, in milliseconds, whatever else the device is doing.",
        rich_help_panel=_WANTED,
    ),
]
EnergyMj = Annotated[
    float | None,
    typer.Option(
        help="Most energy of one run, in millijoules; needs a table with energy_mj.", rich_help_panel=_WANTED
    ),
]
SizeBytes = Annotated[
    int | None,
    typer.Option(min=1, help="Largest ONNX file, in bytes; holds for every target.", rich_help_panel=_WANTED),
]
Macs = Annotated[
    int | None, typer.Option(min=1, help="Most multiply-adds of one input.", rich_help_panel=_WANTED)
]
MemoryBytes = Annotated[
    int | None,
    typer.Option(
        min=1, help="Largest peak of the activations, in bytes, for one input.", rich_help_panel=_WANTED
    ),
]

AdaptationBytes = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most bytes of tensors that fine-tuning it one sample at a time keeps.",
        rich_help_panel=_WANTED,
    ),
]

Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="A choice that may not be taken, such as kernel=7.",
        rich_help_panel=_CHOICES,
    ),
]
Resolution = Annotated[
    list[int] | None,
    typer.Option(min=1, help="The only input sizes that may be chosen, in pixels.", rich_help_panel=_CHOICES),
]
ExcludeMissing = Annotated[
    bool,
    typer.Option(
        "--exclude-missing",
        help="Leave out what the device's table has no latency for.",
        rich_help_panel=_CHOICES,
    ),
]

Precision = Annotated[
    str,
    typer.Option(
        help="Of the blocks: float32, int8, or mixed, which chooses for each block what the device "
        "does faster.",
        rich_help_panel=_CHOICES,
    ),
]

Prune = Annotated[
    bool,
    typer.Option(
        "--prune",
        help="Cut channels out of blocks where that serves the budget; what is left is refitted.",
        rich_help_panel=_CHOICES,
    ),
]

Supernet = Annotated[
    str | None,
    typer.Option(
        help="Id of a trained supernet; left out: that of --space and --dataset, else the newest one.",
        rich_help_panel=_SOURCE,
    ),
]
Space = Annotated[
    str | None,
    typer.Option(
        help="Search space; its supernet is trained first if there is none.", rich_help_panel=_SOURCE
    ),
]
Dataset = Annotated[str | None, typer.Option(help="Data set to train on.", rich_help_panel=_SOURCE)]
Recipe = Annotated[
    str | None, typer.Option(help="Training recipe, if it must be trained.", rich_help_panel=_SOURCE)
]

Strategy = Annotated[
    str,
    typer.Option(
        help="exact, evolution, random, or gradient, which trains for every target (see below).",
        rich_help_panel=_WAY,
    ),
]
GateEpochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="For gradient: epochs it searches for each target, instead of the recipe's.",
        rich_help_panel=_WAY,
    ),
]
Confidence = Annotated[
    float | None,
    typer.Option(
        help="Share of networks that keep the budget when measured; needs measured networks.",
        rich_help_panel=_WAY,
    ),
]
Candidates = Annotated[
    int, typer.Option(min=1, help="Best distinct networks scored on the supernet.", rich_help_panel=_WAY)
]
Verify = Annotated[
    bool, typer.Option(help="Measure the network on the device when an agent is there.", rich_help_panel=_WAY)
]
MeasuredCandidates = Annotated[
    int,
    typer.Option(
        min=1,
        max=16,
        help="Candidates measured at a time; the best that keeps the budget is delivered.",
        rich_help_panel=_WAY,
    ),
]

TuneEpochs = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Train the chosen network on for so many epochs before it is delivered (see below); 5 for a "
        "supernet trained from another's weights, 0 for none.",
        rich_help_panel=_RESULT,
    ),
]
Control = Annotated[
    bool | None,
    typer.Option(
        "--control/--no-control",
        help="Also train the chosen network from random weights with equal steps, and compare.",
        rich_help_panel=_RESULT,
    ),
]
MemoryMb = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most memory of the fine-tuning; its steps are computed to keep it.",
        rich_help_panel=_RESULT,
    ),
]
Train = Annotated[
    str,
    typer.Option(
        help="What fine-tuning changes: all, bias (biases and the last layer), last, or lite (modules that "
        "are put beside its blocks, with both).",
        rich_help_panel=_RESULT,
    ),
]
Defensive = Annotated[
    bool,
    typer.Option(
        "--defensive",
        help="Fine-tuning draws layers towards orthogonal ones, so that errors do not grow on their way.",
        rich_help_panel=_RESULT,
    ),
]
Robustness = Annotated[
    bool,
    typer.Option(
        "--robustness",
        help="Say on the card what the file does on pictures changed to deceive it (FGSM at two strengths).",
        rich_help_panel=_RESULT,
    ),
]
Batch = Annotated[
    str,
    typer.Option(
        help="Batch size of the file: device (that of its context) or dynamic.", rich_help_panel=_RESULT
    ),
]
Preprocessing = Annotated[
    str,
    typer.Option(
        help="separate, or embedded: the file takes bytes and normalises them itself.",
        rich_help_panel=_RESULT,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="ONNX file to write; with several targets, a folder, which gets matrix.json and matrix.png too.",
        rich_help_panel=_RESULT,
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Queue the job, print its id and return.", rich_help_panel=_RESULT)
]
