"""`bespoke supernets`: the networks that are trained once and cut many times."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from service.cli.connection import client, current
from service.cli.jobs import print_job
from service.cli.screen import age, as_json, errors, follow, grid, percent, result, say
from service.client.jobs import Json

if TYPE_CHECKING:
    from service.local.importing import Scored
    from service.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Train, import, show and compare supernets.")

SupernetId = Annotated[str, typer.Argument(help="Id of the supernet, as `bespoke supernets list` shows it.")]
JsonOut = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command("list")
def list_supernets(json_out: JsonOut = False) -> None:
    """List supernets, the newest first."""
    with client() as service:
        supernets = service.supernets()
    if json_out:
        as_json(supernets)
        return
    rows = [
        (
            s["id"],
            s["state"],
            s.get("space"),
            s.get("dataset"),
            s.get("recipe"),
            percent(_accuracy(s, "largest"), 2),
            percent(_accuracy(s, "smallest"), 2),
            age(s.get("created_at")),
        )
        for s in supernets
    ]
    columns = ("supernet", "state", "space", "data set", "recipe", ">largest", ">smallest", "created")
    grid(
        "", columns, rows, "No supernet is trained. Train one: `bespoke supernets train digits-mbv3 digits`."
    )


@app.command()
def show(supernet_id: SupernetId, json_out: JsonOut = False) -> None:
    """Show a supernet: how it was trained, its accuracies, how well its sub-networks' accuracy is
    predicted."""
    with client() as service:
        supernet = service.supernet(supernet_id)
    if json_out:
        as_json(supernet)
        return
    say(f"[bold]{supernet['id']}[/]  {supernet['space']} on {supernet['dataset']}, {supernet['state']}")
    say(f"  recipe     {supernet.get('recipe')}, seed {supernet.get('seed')}")
    if supernet.get("parent"):
        say(f"  from       {supernet['parent']}")
    if supernet.get("class_weights"):
        say(f"  classes    weighed: {supernet['class_weights']}")
    if supernet.get("control"):
        say("  control    searches train their network from scratch too")
    say(f"  largest    {percent(_accuracy(supernet, 'largest'), 2)}")
    say(f"  smallest   {percent(_accuracy(supernet, 'smallest'), 2)}")
    memory = supernet.get("memory")
    if memory:
        say(f"  memory     {memory['peak_mb']:.0f} MB at most: {escape(memory['method'])}")
    predictor = supernet["predictor"]
    if predictor:
        tau = predictor["kendall_tau"]
        error = (
            f"held-out error {percent(predictor['rmse'], 2)}, Kendall tau "
            f"{'-' if tau is None else f'{tau:.2f}'}"
        )
        say(f"  predictor  {predictor['name']}, {error}, from {predictor['networks']} sub-networks")


@app.command()
def train(
    space: Annotated[str, typer.Argument(help="Search space, such as digits-mbv3.")],
    dataset: Annotated[str, typer.Argument(help="Data set, such as digits.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="quick, standard or progressive; left out: standard, or transfer with --from."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is random.")] = 0,
    parent: Annotated[
        str | None,
        typer.Option("--from", help="Supernet of the same space to begin with; its classes may be others."),
    ] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(help="auto: every class counts alike, however rare; left out: every picture does."),
    ] = None,
    control: Annotated[
        bool,
        typer.Option(
            "--control",
            help="Searches from it also train the chosen network from scratch, with equal steps.",
        ),
    ] = False,
    memory_mb: Annotated[
        int | None,
        typer.Option(min=1, help="Most memory of the training process; its steps are computed to keep it."),
    ] = None,
    sync: Annotated[
        str | None,
        typer.Option(help="Of several training processes: every, or delayed where links are slow."),
    ] = None,
    delay: Annotated[
        int | None, typer.Option(min=1, help="Steps after which the others' are taken in (--sync delayed).")
    ] = None,
    top: Annotated[
        float | None, typer.Option(help="Send that share of the gradients only, such as 0.001 (recipe sgd).")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Queue the job, print its id and return.")] = False,
) -> None:
    """Train a supernet, or find the one that was already trained from the same inputs.

    Examples:

    [cyan]bespoke supernets train digits-mbv3 digits[/]

    [cyan]bespoke supernets train digits-mbv3 digits --recipe quick[/]  a trial in about a minute

    [cyan]bespoke supernets train ofa-mbv3 parts --from sup_5f...[/]  your data, from published weights

    [cyan]bespoke supernets train ofa-mbv3 parts --from sup_5f... --control[/]  and whether they help

    [cyan]bespoke supernets train ofa-mbv3 parts --from sup_5f... --memory-mb 2000[/]  within a limit

    With --from the last layer is fitted to your classes and all weights are trained further; inputs are
    normalised as those weights expect. Whether given weights help is a question about your data: with
    --control each search also trains its network from random weights, and the card says what was gained.
    """
    with client() as service:
        shared = {n: v for n, v in {"sync": sync, "delay": delay, "top": top}.items() if v is not None}
        job = service.train_supernet(
            space,
            dataset,
            recipe,
            seed,
            parent,
            memory_mb,
            shared or None,
            class_weights=class_weights,
            control=control,
        )
        for note in job.raw.get("remarks", []):
            errors.print(f"[yellow]{escape(note)}[/]")
        if detach:
            say(job.id)
            result(job.raw)
            return
        done = follow(service, job, f"train {escape(space)}")
        print_job(done)
        result(done.raw)


@app.command("import")
def import_checkpoint(
    file: Annotated[
        Path, typer.Argument(help="Checkpoint (.pth) as it was published.", exists=True, dir_okay=False)
    ],
    space: Annotated[
        str, typer.Option(help="Search space it was trained for, such as ofa-mbv3 or ofa-mbv3-w1.2.")
    ],
    form: Annotated[str, typer.Option("--format", help="Form of the checkpoint.")] = "once-for-all",
    dataset: Annotated[
        str, typer.Option(help="Data set to recalibrate and test delivered networks on.")
    ] = "imagenet",
    classes: Annotated[
        int | None,
        typer.Option(
            min=2, max=100_000, help="Classes of the file's head; left out: the space's own number."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Which weights, where the file holds several: a name in it, or a word of one (`ema`)."
        ),
    ] = None,
    backbone: Annotated[
        bool,
        typer.Option(
            "--backbone", help="Take all but the last layer, which the file may lack: to train from (--from)."
        ),
    ] = False,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Measured accuracies to register too (`supernets scores`).", exists=True, dir_okay=False
        ),
    ] = None,
) -> None:
    """Register a supernet that others trained, on the service's own machine.

    Only tensors are read from the file; every key and shape is checked. What was read is said: which state
    dict of several, and what all names began with (`module.`). Searches can use it once measured accuracies
    are registered, and deliver files where the operator has registered the data set (docs/add_a_dataset.md).

    Example: [cyan]bespoke supernets import ofa_mbv3_d234_e346_k357_w1.0 --space ofa-mbv3 --scores
    top1.csv.gz[/]

    A supernet to train from needs neither scores nor a data set here: the last layer is fitted to yours.

    Example: [cyan]bespoke supernets import flowers.pth --space ofa-mbv3 --classes 102 --dataset flowers
    --weights ema[/]
    """
    from service.local.importing import import_supernet, register_scores

    settings = local_settings()
    made = import_supernet(
        settings, file, space, form, dataset, classes=classes, weights=weights, backbone=backbone
    )
    say(f"{made.supernet_id}: {made.space}, {made.parameters:,} parameters, imported")
    say(f"  {escape(file.name)}: {escape(made.read)}")
    if backbone:
        say(f"Next: `bespoke supernets train {space} DATASET --from {made.supernet_id}`.")
        return
    if not made.dataset_known:
        say(
            f"  the data set {escape(dataset)} is not registered here; files are delivered once it is "
            "(docs/add_a_dataset.md)"
        )
    if scores is not None:
        _say_scored(register_scores(settings, scores, made.supernet_id))
    elif not made.ready:
        say(f"Next: `bespoke supernets scores FILE.csv --supernet {made.supernet_id}`.")


@app.command()
def cut(
    checkpoint: Annotated[
        Path, typer.Argument(help="HAT's checkpoint (.pt) as it was published.", exists=True, dir_okay=False)
    ],
    architecture: Annotated[
        Path,
        typer.Argument(help="Architecture: the YAML of a release, or JSON.", exists=True, dir_okay=False),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="File for that network alone.")],
    weights: Annotated[
        str | None,
        typer.Option(help="Which weights, where the file holds several: a name in it, or a word of one."),
    ] = None,
    source_dictionary: Annotated[
        Path | None,
        typer.Option(help="Dictionary of the source (dict.de.txt), for an archive.", exists=True),
    ] = None,
    target_dictionary: Annotated[
        Path | None,
        typer.Option(help="That of the target, where it is another.", exists=True),
    ] = None,
    uniform_caches: Annotated[
        bool, typer.Option(help="Caches of one shape, as transformers.js wants; a step costs 8 to 21 % more.")
    ] = False,
    merged_decoder: Annotated[
        bool,
        typer.Option(
            "--merged-decoder",
            help="Both decoders as one graph too, as transformers.js loads them; with uniform caches.",
        ),
    ] = False,
) -> None:
    """Cut one transformer out of a published super network, on this machine.

    Only tensors are read; half precision becomes float32. A file (safetensors) is as large as the network
    and says in its header what it is. A name that ends in .zip gives the ONNX graphs of encoder and decoder,
    configurations and tokenizers as optimum and transformers.js read them; `bespoke models run` generates.

    Example: [cyan]bespoke supernets cut HAT_wmt14ende.pt HAT_wmt14ende_titanxp@91ms.yml -o
    hat.safetensors[/]

    Example: [cyan]bespoke supernets cut HAT_wmt14ende.pt HAT_wmt14ende_titanxp@91ms.yml -o hat.zip
    --source-dictionary dict.en.txt[/]
    """
    from service.local.cutting import cut_out_published

    if output.suffix != ".zip" and (source_dictionary or uniform_caches or merged_decoder):
        raise typer.BadParameter("dictionaries and caches belong to an archive; let -o end in .zip")
    if target_dictionary and not source_dictionary:
        raise typer.BadParameter("give --source-dictionary too; a joined dictionary is given once")
    made = cut_out_published(
        checkpoint,
        architecture,
        output,
        weights=weights,
        dictionaries=(
            (source_dictionary, target_dictionary or source_dictionary) if source_dictionary else None
        ),
        uniform=uniform_caches or merged_decoder,
        merged=merged_decoder,
    )
    say(f"{escape(checkpoint.name)}: {escape(made.read)}")
    say(
        f"{escape(str(output))}: {made.size_bytes / 1e6:,.1f} MB, {made.parameters:,} parameters in its "
        f"layers of the {made.whole:,} there"
    )
    result(asdict(made))


@app.command("scores")
def register_accuracies(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV: depth,kernel,expand,resolution,top1_percent; may be .gz.", exists=True, dir_okay=False
        ),
    ],
    supernet: Annotated[str, typer.Option(help="Id of the supernet whose sub-networks were measured.")],
    networks: Annotated[int | None, typer.Option(min=10, help="Fit to that many rows only.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of rows and of the folds.")] = 0,
) -> None:
    """Register measured accuracies of sub-networks: the data of the accuracy predictor, so that nothing is
    evaluated.

    Example: [cyan]bespoke supernets scores ofa_mbv3_imagenet_top1.csv.gz --supernet sup_5f...[/]
    """
    from service.local.importing import register_scores

    _say_scored(register_scores(local_settings(), file, supernet, networks, seed))


@app.command()
def report(
    supernet_id: SupernetId,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for report.json, report.md and report.png.")
    ] = Path("report"),
    networks: Annotated[
        int, typer.Option(min=1, max=20, help="Sub-networks to compare, spread over the front.")
    ] = 5,
    without_shrinking: Annotated[
        bool,
        typer.Option(
            "--without-shrinking/--skip-shrinking", help="Also train with uniform sampling from the start."
        ),
    ] = True,
    tune_epochs: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            help="Also train each sub-network on for that many epochs; networks alone get as many more.",
        ),
    ] = 0,
) -> None:
    """Is a sub-network as good as the same network trained alone? Trains them with the same steps and
    compares.

    Also shows what progressive shrinking brings, how well accuracy is predicted, and what one more device
    costs. Runs on the service's own machine and takes as long as training that many networks; interrupted, it
    goes on.

    Examples:

    [cyan]bespoke supernets report sup_5f... -o report --networks 3[/]

    [cyan]bespoke supernets report sup_5f... --tune-epochs 5[/]  what a short fine-tuning of each network
    brings
    """
    from service.local.reporting import report_supernet

    files, text = report_supernet(
        local_settings(),
        supernet_id,
        output,
        networks=networks,
        without_shrinking=without_shrinking,
        tune_epochs=tune_epochs,
        progress=lambda message: errors.print(escape(message)),
    )
    say(escape(text))
    for file in files:
        say(escape(str(file)))


def local_settings() -> Settings:
    """Settings with the data folder of the root option: these commands work on the service's own machine."""
    from service.settings import read_settings

    return read_settings(current().data_dir)


def _say_scored(scored: Scored) -> None:
    tau = "-" if scored.kendall_tau is None else f"{scored.kendall_tau:.3f}"
    error = f"held-out error {percent(scored.rmse, 2)}, Kendall tau {tau}"
    say(
        f"{scored.supernet_id}: accuracy predictor ({scored.predictor}) fitted to {scored.networks:,} "
        f"networks, {error}"
    )


def _accuracy(supernet: Json, which: str) -> Any:
    return (supernet.get(which) or {}).get("accuracy")
