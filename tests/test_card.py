"""The model card says what the record says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import command
import pytest

from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network, load_model, save_model
from phantomseg.report.card import write_card
from phantomseg.synth.recipe import load_recipe
from phantomseg.synth.templates import Templates, no_templates
from phantomseg.training.config import TrainConfig
from phantomseg.training.loop import Run, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, templates: Templates) -> Path:
    """A model of two runs, of 2 and 3 steps."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = load_recipe("head")
    recipe = replace(recipe, pose=replace(recipe.pose, crop_voxels=(16, 16, 16)))
    begin = Model(build_network("fast", command.TINY), label_set("head"))
    train(recipe, templates, TrainConfig(steps=2, validate_every=99), Run(folder / "one", start=begin))
    first = load_model(folder / "one" / "model")
    train(recipe, templates, TrainConfig(steps=3, batch=2, validate_every=99), Run(folder / "two", start=first))
    return folder / "two" / "model"


def test_record_remembers_the_runs_before(trained: Path) -> None:
    record = load_model(trained).record
    assert [run["steps"] for run in record["earlier"]] == [2] and record["steps"] == 3
    assert "torch" in record["hardware"] and 0 <= record["waited_for_samples"] <= 1


def test_card_of_shapes_names_no_label_maps(tmp_path: Path) -> None:
    recipe = load_recipe("shapes")
    recipe = replace(recipe, shapes=replace(recipe.shapes, crop_voxels=(32, 32, 32)))
    train(recipe, no_templates(2.4), TrainConfig(steps=1, features=(4, 8), validate_every=99), Run(tmp_path))
    assert command.run("card", tmp_path / "model", "-o", tmp_path / "card.md") == 0
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "no scan, and no label map of any anatomy" in text and "| label maps | none |" in text


def test_card_shows_runs_tables_notes_and_pictures(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("structure,dice\nputamen,0.87654\nscans,5\n")
    (tmp_path / "notes.md").write_text("## Weaknesses\n\nNone that is known.\n")
    (tmp_path / "loss.png").write_bytes(b"")
    (tmp_path / "cards").mkdir()
    card = tmp_path / "cards" / "model.md"
    assert command.run(
        "card", trained, "-o", card,
        "--table", f"Accuracy={tmp_path / 'scores.csv'}",
        "--notes", tmp_path / "notes.md",
        "--picture", f"Loss over steps={tmp_path / 'loss.png'}",
    ) == 0  # fmt: skip
    text = card.read_text()
    assert "| 1 | 2 | 1 | 0.004 |" in text and "| 2 | 3 | 2 | 0.004 |" in text
    assert "| steps, samples | 5, 8 |" in text and "for diagnosis" in text
    assert "## Accuracy\n\n| structure | dice |\n| --- | --- |\n| putamen | 0.877 |\n| scans | 5 |" in text
    assert "None that is known." in text and "![Loss over steps](../loss.png)" in text


def test_card_says_that_weights_were_averaged(trained: Path, tmp_path: Path) -> None:
    model = load_model(trained)
    write_card(tmp_path / "one.md", "one", model, None, [], [])
    averaged = replace(model, record={**model.record, "averaged": ["abc", "def"]})
    write_card(tmp_path / "two.md", "two", averaged, None, [], [])
    assert "mean of" not in (tmp_path / "one.md").read_text()
    assert "| weights | mean of 2 models of these runs |" in (tmp_path / "two.md").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--table", "Accuracy"), "is not CAPTION=FILE"),
        (("--table", "Accuracy=missing.csv"), "missing.csv does not exist; check the path"),
        (("--notes", "missing.md"), "missing.md does not exist; check the path"),
    ],
)
def test_wrong_flags_are_named(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], flags: tuple[str, str], message: str
) -> None:
    assert command.run("card", trained, "--output", tmp_path / "card.md", *flags) == 2
    assert message in capfd.readouterr().err and not (tmp_path / "card.md").exists()


def test_model_without_a_record_and_empty_table_are_refused(tmp_path: Path, trained: Path) -> None:
    save_model(tmp_path / "bare", Model(build_network("fast", command.TINY), label_set("head")))
    with pytest.raises(Exception, match="has no record of its training"):
        write_card(tmp_path / "card.md", "bare", load_model(tmp_path / "bare"), None, [], [])
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(Exception, match="wanted a CSV table with a header"):
        write_card(tmp_path / "card.md", "x", load_model(trained), None, [("A", tmp_path / "empty.csv")], [])
