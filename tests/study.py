"""Data and tools small enough to know every number: label maps that are their own scans, tools that copy them."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import command
import nibabel as nib
import numpy as np
import phantom

# values of the set `freesurfer`, which scans hold as intensities
HEAD = phantom.head((24, 28, 24))
VALUES = np.where(np.isin(HEAD, (511, 515)), 0, HEAD).astype(np.int16)
SWAP = {2: 41, 3: 42, 4: 43, 12: 51}

TOOL = """
import sys
from pathlib import Path
import nibabel as nib
import numpy as np
kind, given, made = sys.argv[1:4]
with open(Path(__file__).with_name("calls.txt"), "a") as file:
    file.write(kind + " " + Path(given).name + "\\n")
if kind == "picky" and "two" in given and not Path(__file__).with_name("mended").exists():
    sys.exit("thinking hard\\nno brain in here")
scan = nib.load(given)
values = np.rint(np.asanyarray(scan.dataobj)).astype(np.int16)
if kind == "swap":
    pairs = {2: 41, 3: 42, 4: 43, 12: 51}
    values = np.vectorize({**pairs, **{b: a for a, b in pairs.items()}}.get)(values, values)
if kind == "snap":
    known = np.array([0, 2, 3, 4, 12, 24, 41, 42, 43, 51])
    values = known[np.abs(values[..., None] - known).argmin(-1)]
if kind == "odd":
    values = values + 7000
if kind == "crop":
    values = values[:-1]
if kind != "silent":
    nib.save(nib.Nifti1Image(values.astype(np.int16), scan.affine), made)
"""


def tool(folder: Path, kind: str = "copy") -> str:
    """Command of a tool that copies the values of a scan, with the fault of its kind."""
    script = folder / "tool.py"
    script.write_text(TOOL, encoding="utf-8")
    return f"{sys.executable} {script} {kind} {{input}} {{output}}"


def calls(folder: Path) -> list[str]:
    """What tools were asked for so far."""
    path = folder / "calls.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def scan(path: Path, values: np.ndarray = VALUES) -> Path:
    """A scan whose intensities are labels."""
    return phantom.save(path, values.astype(np.float32))


def pair(folder: Path, name: str, values: np.ndarray = VALUES) -> None:
    """A scan and its reference."""
    folder.mkdir(parents=True, exist_ok=True)
    scan(folder / f"{name}_T1w.nii.gz", values)
    phantom.save(folder / f"{name}_dseg.nii.gz", values)


def data(folder: Path, tools: str = "", extra: str = "", top: str = "") -> Path:
    """A description of the scans of a folder."""
    path = folder / "data.toml"
    text = f'{top}\n[datasets.toy]\nfolder = "scans"\nimage = "*_T1w.nii.gz"\nreference = "*_dseg.nii.gz"\n'
    text += f"{extra}\n{tools}\n"
    path.write_text(text, encoding="utf-8")
    return path


def command_tool(folder: Path, name: str, kind: str, extra: str = "") -> str:
    """A table of a tool."""
    return f"[tools.{name}]\ncommand = '{tool(folder, kind)}'\n{extra}\n"


def study(name: str, path: Path, *flags: object) -> int:
    """Exit code of a study; results lie beside the description."""
    return command.run("study", name, "--data", path, "-o", path.parent / "out", *flags)


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def chosen(rows: list[dict[str, str]], **where: str) -> list[dict[str, str]]:
    """Rows whose columns hold these values."""
    return [row for row in rows if all(row[key] == value for key, value in where.items())]


def labels(path: Path) -> np.ndarray:
    """Values of a label map."""
    return np.asanyarray(nib.load(path).dataobj)
