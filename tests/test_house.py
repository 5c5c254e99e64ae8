"""The rules of the house that a machine can hold: floors, file length, silence below the command line."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import phantomseg

ROOT = Path(phantomseg.__file__).parent
FLOORS = [
    {"cgroups", "environment", "errors", "memory", "rng", "runtime", "toml"},
    {"labels", "image"},
    {"synth", "network", "evaluation"},
    {"models"},
    {"inference"},
    {"report", "training"},
    {"studies"},
    {"cli"},
    {"__init__", "__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
STRANGERS = {"synth", "network", "evaluation"}  # these do not know each other
FILES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    modules = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.append(node.module)
            if node.module == "phantomseg":  # a room taken from the house itself
                modules += [f"phantomseg.{alias.name}" for alias in node.names if not alias.name.startswith("_")]
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    parts = [module.split(".") for module in modules if module.split(".")[0] == "phantomseg"]
    return {part[1] for part in parts if len(part) > 1}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards_and_files_are_short(path: Path) -> None:
    here = room(path)
    for other in imported_rooms(path) - {here}:
        assert FLOOR[other] <= FLOOR[here], f"{here} imports {other}, which lives above it"
        assert not {here, other} <= STRANGERS, f"{here} and {other} should not know each other"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_floors_have_no_circles() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        graph.setdefault(room(path), set()).update(imported_rooms(path) - {room(path)})
    done: list[str] = []
    while len(done) < len(graph):
        free = [name for name in graph if name not in done and graph[name] <= {*done, *set(FLOOR) - set(graph)}]
        assert free, f"circle among {sorted(set(graph) - set(done))}"
        done += free


READS_THE_ENVIRONMENT = {"cli", "environment"}


@pytest.mark.parametrize(
    "path", [p for p in FILES if room(p) not in READS_THE_ENVIRONMENT], ids=lambda path: str(path.relative_to(ROOT))
)
def test_library_neither_exits_nor_reads_the_environment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for forbidden in ("sys.exit", "os.environ", "os.getenv", "np.random.seed", "print("):
        assert forbidden not in text
