"""`phantomseg doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch
    from rich.console import Console

EXTRAS = {"dicom": ("pydicom", "gdcm"), "openvino": ("openvino",)}  # modules that each brings
VERSIONS = ("torch", "numpy", "nibabel", "openvino")
NAME_WIDTH = 11
Row = tuple[str, str]


def run(
    self_test: Annotated[
        bool, typer.Option("--self-test/--no-self-test", help="Also segment a small head made in memory.")
    ] = True,
) -> None:
    """Say what is installed, what this machine computes with, and whether a scan can be segmented here.

    Reads no scan and writes nothing. Exit code 1 if something is wrong.
    """
    from rich.console import Console

    from phantomseg.cli.options import begin

    place = begin("auto", None)
    console = Console(highlight=False)
    _show(console, "versions", _versions())
    _show(console, "machine", _machine(place))
    _show(console, "backends", _backends(place))
    _show(console, "extras", _extras())
    problems = _check_models(console)
    if self_test and not problems:
        problems = _test(console, place)
    for problem in problems:
        Console(stderr=True, highlight=False).print(f"error: {problem}", style="red", soft_wrap=True, markup=False)
    if problems:
        raise typer.Exit(1)


def _versions() -> Iterator[Row]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from phantomseg import __version__

    yield "phantomseg", __version__
    yield "python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    for name in VERSIONS:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def _machine(place: torch.device) -> Iterator[Row]:
    import torch

    from phantomseg.memory import available_bytes, limit_bytes
    from phantomseg.runtime import hardware, physical_cores

    yield "runs on", hardware(place)
    yield "cores", f"{physical_cores()} physical, {torch.get_num_threads()} threads used by default"
    yield "bfloat16", _bfloat16(place)
    limit = limit_bytes()
    limited = "no limit" if limit is None else f"limit {limit / 1e9:.1f} GB"
    yield "memory", f"{available_bytes() / 1e9:.1f} GB free to this process, {limited}"
    cuda = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    mps = ["Apple GPU (mps)"] if torch.backends.mps.is_available() else []
    yield "GPU", ", ".join([*cuda, *mps]) or "none"


def _bfloat16(place: torch.device) -> str:
    import torch

    from phantomseg.runtime import number_format

    return "yes" if number_format(place) == torch.bfloat16 else "no, computes in float32"


def _backends(place: torch.device) -> Iterator[Row]:
    from phantomseg.network.openvino import choose_backend
    from phantomseg.network.openvino_import import openvino_available

    yield "found", "torch, openvino" if openvino_available() else "torch"
    yield "auto uses", choose_backend("auto", place)


def _extras() -> Iterator[Row]:
    from importlib.util import find_spec

    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        yield extra, f"missing: pip install 'phantomseg[{extra}]'" if missing else "installed"


def _check_models(console: Console) -> list[str]:
    """Load each shipped model, whose weights are compared with their checksum; returns what is wrong."""
    from phantomseg.errors import PhantomSegError, one_sentence
    from phantomseg.models import DEFAULT, find_model, model_names

    rows, problems = [], []
    for name in model_names():
        try:
            model = find_model(name)
            rows.append((name, f"{len(model.labels)} labels at {model.spacing_mm:g} mm, checksum of weights ok"))
        except (PhantomSegError, OSError) as error:
            rows.append((name, "damaged"))
            problems.append(one_sentence(error))
    if DEFAULT not in dict(rows):
        problems.append(f"the shipped model {DEFAULT!r} is missing; install phantomseg again")
    _show(console, "models", rows)
    return problems


def _test(console: Console, place: torch.device) -> list[str]:
    import time

    from phantomseg.errors import PhantomSegError, one_sentence
    from phantomseg.inference.selftest import self_test
    from phantomseg.models import find_model
    from phantomseg.network.openvino import choose_backend, to_openvino

    started, backend = time.perf_counter(), choose_backend("auto", place)
    try:
        model = find_model()
        model.network.to(place)
        problems = list(self_test(to_openvino(model) if backend == "openvino" else model))
    except (PhantomSegError, OSError, RuntimeError, MemoryError) as error:  # torch lacks memory by RuntimeError
        problems = [one_sentence(error)]
    seconds = time.perf_counter() - started
    result = "failed" if problems else f"ok: a made head segmented twice alike by {backend}, in {seconds:.1f} s"
    _show(console, "self-test", [("result", result)])
    return [f"self-test: {problem}" for problem in problems]


def _show(console: Console, title: str, rows: Iterator[Row] | list[Row]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        bad = value.startswith(("damaged", "failed"))
        poor = value.startswith(("missing", "not installed"))
        table.add_row(Text(name.ljust(NAME_WIDTH)), Text(value, style="red" if bad else "yellow" if poor else ""))
    console.print(Text(title, style="bold"))
    console.print(table)
