from __future__ import annotations

import re
from pathlib import Path

import command
import numpy as np
import phantom
import pytest

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("templates")
    phantom.save(folder / "one.nii.gz", phantom.head((20, 22, 18)))
    return folder


def label_map(folder: Path, value: int, spacing: float = 1.0) -> Path:
    folder.mkdir(exist_ok=True)
    labels = phantom.head((20, 22, 18))
    labels[10, 10, 8:11] = value
    return phantom.save(folder / "map.nii.gz", labels, np.diag([spacing, spacing, spacing, 1]))


@pytest.mark.parametrize("words", [("synthesize",), ("train", "--steps", 1), ("prepare",)], ids=lambda words: words[0])
def test_templates_that_cannot_be_used(tmp_path: Path, capfd: Capture, words: tuple) -> None:
    def error(folder: Path) -> str:
        return command.refused(capfd, tmp_path / "out", *words, "--templates", folder)

    empty, junk, outside = (tmp_path / name for name in ("empty", "junk.npz", "outside"))
    empty.mkdir()
    junk.write_bytes(b"junk")
    assert "nowhere is no folder of label maps, no labels.toml and no prepared .npz; give" in error(
        tmp_path / "nowhere"
    )
    assert "empty holds no .nii, .nii.gz or .mgz file; put label maps there" in error(empty)
    assert "junk.npz is no prepared template file" in error(junk)
    path = label_map(tmp_path / "unknown", 999)
    assert f"{path} holds value 999 in 3 voxels" in error(path.parent)
    path = label_map(tmp_path / "coarse", 999, spacing=2)  # voxels of the file, not of the grid used later
    assert f"{path} holds value 999 in 3 voxels" in error(path.parent)
    outside.mkdir()
    phantom.save(outside / "a.nii.gz", np.full((5, 5, 5), 511, dtype=np.int16))
    assert "a.nii.gz holds no brain label; wanted a label map" in error(outside)
    (outside / "b.nii.gz").write_bytes(b"junk")
    (outside / "a.nii.gz").unlink()
    assert "b.nii.gz is no NIfTI or MGH file by its first bytes" in error(outside)


RECIPES = {
    "key": ("warp_nodes_mm", "warp_nodes", "unknown key 'pose.warp_nodes'; known here are crop_voxels"),
    "table": ("[gamma]", "[gama]", "unknown key 'gama'; known here are target"),
    "no table": ("[gamma]", "[[gamma]]", r"recipe key gamma is .*, wanted a table; write \[gamma\]"),
    "string": ("flip_probability = 0.5", "flip_probability = 'half'", "flip_probability is 'half', wanted a number"),
    "probability": ("flip_probability = 0.5", "flip_probability = 5", "is 5, wanted a probability between 0 and 1"),
    "kind": (
        "isotropic_mm = { uniform = [1, 4] }",
        "isotropic_mm = { even = [1, 4] }",
        "resolution.isotropic_mm is {'even'.* wanted a number or one of",
    ),
    "count": ("{ uniform = [1, 8] }", "{ uniform = [1, 8, 9] }", "wanted a number or one of"),
    "bounds": (
        "{ uniform = [1, 8] }",
        "{ uniform = [8, 1] }",
        r"slices_mm is { uniform = \[8, 1\] }, wanted .*; correct",
    ),
    "logarithm": ("{ uniform = [1, 8] }", "{ loguniform = [0, 8] }", "wanted finite low, high with low above 0"),
    "spread": ("{ normal = [0, 0.4] }", "{ normal = [0, -0.4] }", "wanted finite mean, std with std at least 0"),
    "infinite": ("{ uniform = [1, 8] }", "{ uniform = [1, inf] }", "wanted finite low, high"),
    "crop": ("[32, 32, 32]", "[32, 32]", r"crop_voxels is \[32, 32\], wanted 3 whole numbers above 0"),
    "nodes": ("warp_nodes_mm = 25", "warp_nodes_mm = 0", "pose.warp_nodes_mm is 0, wanted a distance above 0"),
    "target": ('"head"', '"nothing"', "no label set 'nothing'"),
    "finest target": ('"head"', '"generation"', "no merge from 'head' to 'generation'"),
    "no target": ('target = "head"', "", "recipe lacks the key 'target'; add it"),
    "distances": (
        'target = "head"',
        'target = "head"\ndistance_voxels = 6',
        "distance_voxels 6 and target 'head', wanted",
    ),
    "fine distances": (
        'target = "head"',
        'target = "mask"\ndistance_voxels = 6',
        "distance_voxels and fine_voxels_per_mm 2, wanted 1 of the latter, .*; leave one of them out",
    ),
    "TOML": ("[pose]", "[pose", "is not valid TOML .*; correct that line"),
}


@pytest.mark.parametrize("case", RECIPES)
def test_recipes_that_cannot_be_used(tmp_path: Path, templates: Path, capfd: Capture, case: str) -> None:
    old, new, message = RECIPES[case]
    recipe = command.small_recipe(tmp_path / "recipe.toml", replace=(old, new))
    for words in (("synthesize", "-n", 1), ("train", "--steps", 1)):
        error = command.refused(capfd, tmp_path / "out", *words, "--templates", templates, "--recipe", recipe)
        assert re.search(message, error), error


@pytest.mark.parametrize(
    "flags, message",
    [
        ((), "budget is given twice or not at all; give either --steps or --minutes"),
        (("--steps", 1, "--minutes", 1), "budget is given twice or not at all; give either --steps or --minutes"),
        (
            ("--steps", 1, "--recipe", "nothing"),
            "no recipe 'nothing'; give a .toml file or one of find, head, pumba, shapes, supervised, "
            "synthseg, universal",
        ),
        (("--steps", 1, "--network", "nothing"), "no network 'nothing'; choose one of fast, unet"),
        (("--steps", 1, "--optimiser", "sgd"), "optimiser is 'sgd', wanted muon or adam"),
        (("--steps", 1, "--start", "nothing"), "no model 'nothing'"),
        (
            ("--steps", 1, "--start", "strip"),
            "predicts 'border' with .* distance_voxels None, this run wants 'head' .* None",
        ),
        (("--steps", 1, "--start", "head", "--features", "8,16"), "has features already; leave out --features, or"),
        (("--steps", 1, "--network", "unet", "--features", "8,16"), "given for network 'unet', wanted fast; leave one"),
        (("--steps", 1, "--validate", "nothing"), "nothing is no folder; wanted a folder of scans"),
        (("--steps", 1, "--resume"), "no checkpoint .*checkpoint.safetensors to resume from; leave --resume out"),
        (("--steps", 1, "--device", "toaster"), "device 'toaster' is not available here"),
        (("--steps", 1, "--crop", 24), r"crop_voxels of the recipe is \[24, 24, 24\], .* multiples of 16.*; change"),
        (("--steps", 1, "--crop", 16), r"is \[16, 16, 16\], .* at least one of them above 16; change the recipe"),
    ],
)
def test_training_that_cannot_start(
    tmp_path: Path, templates: Path, capfd: Capture, flags: tuple, message: str
) -> None:
    crop = 32
    if "--crop" in flags:
        *flags, _, crop = flags
    recipe = command.small_recipe(tmp_path / "recipe.toml", crop)
    error = command.refused(capfd, tmp_path / "out", "train", "--templates", templates, "--recipe", recipe, *flags)
    assert re.search(message, error), error


@pytest.mark.parametrize(
    "predicted, reference, message",
    [
        ("a", "longer", r"shape \(4, 4, 4\), reference \(5, 5, 5\).*; bring both to one grid first"),
        ("unknown", "a", "prediction holds value 999, which the set 'freesurfer' does not; choose"),
        ("a", "unknown", "reference holds value 999"),
        ("negative", "a", "holds values from -1 to"),
        ("a", "half", "half.nii.gz holds values that are not whole numbers; wanted a label map"),
        ("a", "missing", "missing.nii.gz does not exist"),
    ],
)
def test_label_maps_that_cannot_be_scored(
    tmp_path: Path, capfd: Capture, predicted: str, reference: str, message: str
) -> None:
    for name, size, value in (
        ("a", 4, 2),
        ("longer", 5, 2),
        ("unknown", 4, 999),
        ("negative", 4, -1),
        ("half", 4, 0.5),
    ):
        phantom.save(tmp_path / f"{name}.nii.gz", np.full((size,) * 3, value, dtype=np.float32), np.eye(4))
    paths = [tmp_path / f"{name}.nii.gz" for name in (predicted, reference)]
    error = command.refused(capfd, tmp_path / "out.csv", "evaluate", *paths)
    assert re.search(message, error), error
    paths[1] = tmp_path / "a.nii.gz"
    if predicted == "a":
        assert "no label set 'nothing'" in command.refused(
            capfd, tmp_path / "o.csv", "evaluate", *paths, "--labels", "nothing"
        )
