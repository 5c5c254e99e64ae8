from __future__ import annotations

import json
from pathlib import Path

import command
import nibabel as nib
import numpy as np
import phantom
import pytest

from phantomseg.cli import inspect
from phantomseg.cli.main import app

Capture = pytest.CaptureFixture[str]
if inspect.run not in [known.callback for known in app.registered_commands]:
    app.command("inspect")(inspect.run)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return phantom.save(tmp_path / "scan.nii.gz", command.head_scan(), np.diag([-7, 7, 7, 1]))


def test_inspect_scans(tmp_path: Path, scan: Path, capfd: Capture) -> None:
    before = sorted(tmp_path.iterdir())
    assert command.run("inspect", scan) == 0  # warnings are no errors
    printed = capfd.readouterr()
    assert printed.err == ""
    lines = [line.rstrip() for line in printed.out.splitlines()]
    assert lines[0] == str(scan)
    assert "  ok       grid 20 × 22 × 18 voxels" in lines
    assert "  warning  spacing 7 × 7 × 7 mm: thick slices, small structures will be poor" in lines
    at = lines.index("  ok       axes run to L, A, S")
    assert lines[at - 2 : at] == [
        "           to do: use a finer scan if any",
        "  ok       field of view 140 × 154 × 126 mm",
    ]
    assert all(len(line) <= 80 for line in lines[1:])
    assert "\x1b" not in printed.out
    bad = [tmp_path / "none.nii", scan]
    assert command.run("inspect", *bad) == 2
    printed = capfd.readouterr()
    assert printed.err == ""
    assert "does not exist or is no file; check the path" in " ".join(printed.out.split())
    assert str(scan) in printed.out  # the rest is looked at
    assert sorted(tmp_path.iterdir()) == before


def records(capfd: Capture, *arguments: object, code: int = 0) -> list[dict[str, object]]:
    capfd.readouterr()
    assert command.run("inspect", *arguments, "--json") == code
    return json.loads(capfd.readouterr().out)


def whats(record: dict[str, object]) -> list[str]:
    return [finding["what"] for finding in record["findings"]]


def test_inspect_json(tmp_path: Path, scan: Path, capfd: Capture) -> None:
    small = phantom.save(tmp_path / "small.nii.gz", command.head_scan(), np.diag([0.1, 0.1, 0.1, 1]))
    first, second, third = records(capfd, scan, small, tmp_path / "none.nii", code=2)
    assert [first["scan"], second["scan"]] == [str(scan), str(small)]
    assert [record["usable"] for record in (first, second, third)] == [True, False, False]
    assert {"level": "ok", "what": "axes run to L, A, S", "fix": ""} in first["findings"]
    levels = [finding["level"] for finding in second["findings"]]
    assert levels.count("error") == 1
    assert "field of view 2 × 2 × 2 mm, wanted 15 to 400 mm" in whats(second)
    assert len(third["findings"]) == 1


def test_inspect_volume(tmp_path: Path, capfd: Capture) -> None:
    several = np.stack([command.head_scan(), 3 * command.head_scan()], axis=-1)
    nib.save(nib.Nifti1Image(several, np.diag([7, 7, 7, 1])), tmp_path / "a.nii")
    (record,) = records(capfd, tmp_path / "a.nii", code=2)
    assert "holds 2 volumes, wanted one; say which volume, from 0 to 1" in whats(record)[0]
    assert (several[..., 0].min(), several[..., 0].max()) == (2, 515)
    for number, values in ((0, "values from 2 to 515"), (1, "values from 6 to 1545")):
        (record,) = records(capfd, tmp_path / "a.nii", "--volume", number)
        assert any(what.startswith(values) for what in whats(record))


def test_inspect_reorient(scan: Path, capfd: Capture) -> None:
    (record,) = records(capfd, scan, "--reorient", "PIR")
    assert "axes run to P, I, R" in whats(record)
    (record,) = records(capfd, scan, "--reorient", "ABC", code=2)
    assert "axes are declared as 'ABC', wanted three letters" in whats(record)[0]


def test_inspect_names_that_are_no_text(tmp_path: Path, scan: Path, capfd: Capture) -> None:
    odd = tmp_path / "r\udce4ntgen.nii.gz"
    try:
        odd.write_bytes(scan.read_bytes())
    except OSError:
        pytest.skip("this disk takes no such names")
    assert command.run("inspect", odd) == 0
    assert "r?ntgen.nii.gz" in capfd.readouterr().out


def test_every_flag_is_tested() -> None:
    command.check_every_flag_is_tested(
        "inspect",
        {
            "scans": test_inspect_scans,
            "volume": test_inspect_volume,
            "reorient": test_inspect_reorient,
            "as_json": records,
        },
    )
