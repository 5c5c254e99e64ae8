"""`phantomseg train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phantomseg.cli.options import Device, OptionalRecipe, OptionalTemplates, Threads, begin, read_templates
from phantomseg.cli.supervised import Images, LabelMaps, NaiveFlips, Supervised, Supervision, Values
from phantomseg.errors import TrainingError
from phantomseg.training.config import TrainConfig

LOGGED_EVERY = 100  # steps, where nobody watches

if TYPE_CHECKING:
    from phantomseg.training.state import TrainState


def run(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")],
    templates: OptionalTemplates = None,
    supervised: Supervised = False,
    images: Images = None,
    labels: LabelMaps = None,
    values: Values = None,
    naive_flips: NaiveFlips = False,
    recipe: OptionalRecipe = None,
    network: Annotated[
        str | None, typer.Option(help="fast, or unet (the SynthSeg paper's).", show_default=TrainConfig.network)
    ] = None,
    features: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Channels of each level of the network, from the finest.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Budget in steps.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Budget in minutes.")] = None,
    endless: Annotated[
        bool, typer.Option("--endless", help="Train at constant rates until stopped; cut a --branch to get a model.")
    ] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples per step and process.", show_default=str(TrainConfig.batch))
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**31 - 1,
            help="Seed of the samples and of random initial weights.",
            show_default=str(TrainConfig.seed),
        ),
    ] = None,
    optimiser: Annotated[
        str | None, typer.Option(help="muon (with AdamW), or adam.", show_default=TrainConfig.optimiser)
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=0, help="Peak learning rate.", show_default=str(TrainConfig.learning_rate)),
    ] = None,
    relative_step: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Peak change per step of 3³ filters before a norm, over their norm; 0 freezes them (fast with muon).",
            show_default="0.01, or 0.001 with --start",
        ),
    ] = None,
    start: Annotated[str | None, typer.Option(help="Model to start from: shipped name, or folder.")] = None,
    validate: Annotated[Path | None, typer.Option(help="Labelled scans to score at each validation.")] = None,
    validate_every: Annotated[
        int | None,
        typer.Option(min=1, help="Steps between validations.", show_default=str(TrainConfig.validate_every)),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the run in --output with its settings; the budget may grow."),
    ] = False,
    new_stage: Annotated[
        bool, typer.Option("--new-stage", help="Continue the run with changed settings, which are recorded.")
    ] = False,
    branch: Annotated[
        Path | None,
        typer.Option(
            metavar="TRUNK",
            help="Start from the checkpoint of this run with its settings, and decay all rates to zero, by default "
            "over a seventh of its steps.",
        ),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network (needs a C++ compiler).")] = False,
    workers: Annotated[int, typer.Option(min=0, help="CPU processes that make samples ahead.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train a network on samples drawn from label maps or from shapes alone, or on real scans with their labels.

    Ctrl-C and SIGTERM save; --resume continues. `torchrun --nproc-per-node 2 -m -- phantomseg train …` trains in two
    processes.
    """
    from phantomseg.models import find_model
    from phantomseg.training.distributed import join_processes
    from phantomseg.training.inherit import configure_branch, configure_new, configure_resumed
    from phantomseg.training.loop import Run, train
    from phantomseg.training.validate import held_out_dice, real_scan_dice, scored_set

    supervision = Supervision(supervised, images, labels, values, naive_flips)
    supervision.check(templates)
    if branch is not None and (resume or new_stage):
        raise TrainingError("--branch begins a run, --resume and --new-stage go on with one; leave one of them out")
    processes, place = join_processes(begin(device, threads))
    beginning = find_model(start) if start is not None else None
    options = {
        "network": network,
        "features": parse_features(features),
        "steps": steps,
        "minutes": minutes,
        "endless": endless or None,
        "batch": batch,
        "seed": seed,
        "optimiser": optimiser,
        "learning_rate": learning_rate,
        "relative_step": relative_step,
        "validate_every": validate_every,
    }
    given = {name: value for name, value in options.items() if value is not None}
    inherited = None
    if branch is not None:
        config, inherited = configure_branch(branch, **given)
    elif resume or new_stage:
        config, inherited = configure_resumed(output, **given)
    else:
        config = configure_new(beginning is not None, **given)
    settings = supervision.recipe(recipe) if inherited is None or recipe or naive_flips else inherited
    loaded = (supervision.scans(settings) if supervised else read_templates(templates, settings)).to(place)
    scores = [lambda net: held_out_dice(net, settings, loaded)]
    if validate is not None:
        from phantomseg.evaluation.dataset import find_cases
        from phantomseg.labels import merge

        cases = find_cases(validate)
        for case in cases:
            case.read()  # a fault shows before the first step
        merge(settings.target, scored_set(settings.target))
        scores.append(lambda net: real_scan_dice(net, settings, cases, loaded))
    run = Run(
        output,
        resume=resume or new_stage,
        new_stage=new_stage,
        branch=branch,
        start=beginning,
        compile=compiled,
        workers=workers,
        scores=tuple(scores),
        report=_report,
        processes=processes,
    )
    train(settings, loaded, config, run)
    if processes.is_main:
        print(f"\n{output / 'model'}")


def parse_features(text: str | None) -> tuple[int, ...] | None:
    """Numbers with commas between.

    Raises:
        TrainingError: they are not.

    >>> parse_features("16,32")
    (16, 32)
    """
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) < 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise TrainingError(f"features are {text!r}, wanted two or more whole numbers above 0, as 24,48,96")
    return tuple(int(part) for part in parts)


def _report(state: TrainState, progress: float) -> None:
    shown = sys.stdout.isatty()
    if not state.rows or (state.step % (10 if shown else LOGGED_EVERY) and progress < 1):
        return
    recent = state.rows[-50:]
    loss = sum(row["loss"] for row in recent) / len(recent)
    span = recent[-1]["seconds"] - recent[0]["seconds"]
    speed = (len(recent) - 1) / span if span > 0 else 0.0
    spent = state.seconds - state.stage_seconds
    left = f"{spent * (1 - progress) / progress / 60:.1f} min left" if progress else "no end"
    scores = "".join(f"  {key} {value:.3f}" for key, value in recent[-1].items() if key.startswith("dice"))
    end = "\r" if shown and not scores else "\n"
    print(f"step {state.step}  loss {loss:.3f}  {speed:.2f} steps/s  {left}{scores}", end=end, flush=True)
