"""What the README shows runs."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from pathlib import Path

import nibabel as nib
import numpy as np
import phantom
import pytest
import study
from scipy import ndimage

from phantomseg.cli.main import app, main
from phantomseg.image.files import read_image
from phantomseg.image.image import Image
from phantomseg.inference.segment import segment
from phantomseg.inference.strip import strip
from phantomseg.labels import label_set, label_set_names
from phantomseg.models import find_model, model_names

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def mni_average() -> Image:
    path = resources.files("nilearn.datasets") / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    return read_image(Path(str(path)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).normal(0, 5, phantom.SHAPE)
    phantom.save(tmp_path / "scan.nii.gz", (phantom.head() % 97 + noise).astype(np.float32))
    (tmp_path / "label_maps").mkdir()
    phantom.save(tmp_path / "label_maps" / "one.nii.gz", phantom.head())
    study.pair(tmp_path / "labelled", "one")
    (description,) = blocks("toml")
    text = description.replace("mytool {input} {output}", study.tool(tmp_path))
    (tmp_path / "data.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_commands_of_the_readme_run(folder: Path) -> None:
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("phantomseg")]
    assert len(commands) == 9
    for command in commands:
        quick = command.replace("--minutes 600", "--steps 1").replace("-n 16", "-n 2")
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(quick)[1:])
        assert ended.value.code in (0, None), command
    for made in (
        "out/scan_dseg.nii.gz",
        "out/volumes.tsv",
        "out/scan_overlay.png",
        "out/scan_brain.nii.gz",
        "out/report.html",
        "masks/scan_mask.nii.gz",
        "samples/contact_sheet.png",
        "studies/accuracy/report.html",
    ):
        assert (folder / made).is_file()


def test_python_of_the_readme_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert (folder / "scan_dseg.nii.gz").is_file() and "mm³ of bone" in capsys.readouterr().out


def test_pictures_and_links_exist() -> None:
    targets = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
    assert targets and [t for t in targets if not (ROOT / t).exists()] == []


def test_label_set_table_counts_right() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", README, flags=re.MULTILINE))
    assert {name: int(count) for name, count in rows.items()} == {
        name: len(label_set(name)) - 1 for name in rows
    }  # background is none
    not_shown = {
        "generation",
        "evaluation",
        "shapes",
        "border",
        "manual",
        "mask",
        "matter",
        "healthy",
        "refined",
        "plexus",
        "outer",
    }
    assert set(rows) == set(label_set_names()) - not_shown


def test_shipped_model_is_small_and_what_the_default_names() -> None:
    assert "head" in model_names()
    folder = resources.files("phantomseg.models") / "head"
    assert sum(path.stat().st_size for path in Path(str(folder)).iterdir()) <= 16e6
    assert find_model().labels == label_set("head")
    for name in ("universal", "shapes"):
        strip_folder = resources.files("phantomseg.models") / name
        assert sum(path.stat().st_size for path in Path(str(strip_folder)).iterdir()) <= 8e6
    assert find_model("universal").labels == label_set("border")
    assert find_model("strip").labels == find_model("shapes").labels == label_set("border").only([0, 1, 2])
    assert {command.name for command in app.registered_commands} == {
        "segment", "strip", "inspect", "synthesize", "prepare", "train", "evaluate", "study", "card", "doctor",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["universal", "shapes"])
def test_shipped_models_strip_the_mni_average_in_any_contrast(name: str) -> None:
    scan, model = mni_average(), find_model(name)
    inside = ndimage.binary_fill_holes(scan.voxels > 0)
    for voxels in (scan.voxels, np.where(inside, scan.voxels.max() - scan.voxels, 0)):
        found = strip(scan.with_voxels(voxels), model, fluid="sulci").image.voxels > 0
        assert 2 * (found & inside).sum() / (found.sum() + inside.sum()) > 0.93
    assert np.array_equal(strip(scan, model).image.voxels > 0, inside)  # it was stripped before


def test_shipped_model_segments_the_mni_average_with_sides_where_they_belong() -> None:
    scan = mni_average()
    result = segment(scan, find_model(), "freesurfer")
    assert result.image.shape == scan.shape and np.array_equal(result.image.affine, scan.affine)
    names = result.labels.names
    for structure in ("putamen", "hippocampus", "cerebral white matter", "lateral ventricle"):
        for side, sign in (("left", -1), ("right", 1)):
            index = np.argwhere(result.image.voxels == result.labels.ids[names.index(f"{side} {structure}")]).mean(0)
            assert np.sign(nib.affines.apply_affine(scan.affine, index)[0]) == sign
    sides = [result.volumes_mm3[f"{side} putamen"] for side in ("left", "right")]
    assert min(sides) > 3000 and max(sides) < 9000
    assert abs(sides[0] - sides[1]) / sum(sides) < 0.1
    parenchyma = sum(v for name, v in result.volumes_mm3.items() if name != "cerebrospinal fluid")
    assert 1.2e6 < parenchyma < 2.2e6  # the MNI brain is large
