"""Networks trained on a few real scans beside one that never saw any: every rotation of training and test scans."""

from __future__ import annotations

from dataclasses import replace

from phantomseg.errors import ScanError
from phantomseg.report.plots import box_plot
from phantomseg.report.study_page import StudyTable
from phantomseg.studies import accuracy
from phantomseg.studies.nnunet import nnunet_available
from phantomseg.studies.plan import Dataset, Plan, Scan
from phantomseg.studies.scores import MEASURES
from phantomseg.studies.study import DEFAULT_COLUMNS, Plot, Settings, Shown, Study, of_measure, summary_table
from phantomseg.studies.tables import select, series_of
from phantomseg.studies.tools import Tool
from phantomseg.studies.trained import Lesson, NnUNetTool, SupervisedTool
from phantomseg.studies.views import SIDES
from phantomseg.studies.work import Row, Task

TRAINING_SCANS = 3
NNUNET = "nnunet"
TEXT = f"""Networks are trained on {TRAINING_SCANS} real scans with their labels and tested on the others of the
dataset, in every rotation, beside tools that were not trained on any of them. The budget of each training is stated
below; it is short, so the figures say what little data and little time give, not what these networks
could reach.

"Supervised" is the package's own network on real scans, augmented by deformation, receive gain and contrast curve;
mirrored samples exchange left and right labels. "Supervised, naive flips" is the same, but mirrored samples keep their
labels, so that the network is told half the time that left is right: the symmetry trap. It shows as a Dice that is low
with sides apart and high with sides merged, and as a laterality error near one half. nnU-Net mirrors so by default, in
training and in prediction. All are used without averaging over mirrored scans, but for tools that do so rightly.

Manual protocols favour networks that were trained on them: a network that knows another protocol loses where the two
differ, however well it works."""


def tasks(plan: Plan, tools: list[Tool], settings: Settings) -> list[Task]:
    """One task a rotation and test scan.

    Raises:
        ScanError: too few scans, or a peer that is not known or not installed.
    """
    _check_peers(settings.peers)
    made: list[Task] = []
    for dataset in plan.datasets:
        scans = accuracy.referenced(dataset, settings.most)
        if len(scans) > TRAINING_SCANS:
            for rotation in range(len(scans)):
                made += _rotation(plan, dataset, scans[rotation:] + scans[:rotation], tools, settings)
    return made


def _check_peers(peers: tuple[str, ...]) -> None:
    unknown = [peer for peer in peers if peer != NNUNET]
    if unknown:
        raise ScanError(f"there is no peer {unknown[0]!r}; --with takes {NNUNET}")
    if peers and not nnunet_available():
        raise ScanError("nnU-Net is not installed; pip install 'phantomseg[nnunet]', or leave out --with nnunet")


def _rotation(plan: Plan, dataset: Dataset, scans: list[Scan], tools: list[Tool], settings: Settings) -> list[Task]:
    """Tasks of the scans that are left after the first ones have been learnt from."""
    lesson = Lesson(
        scans=tuple(scans[:TRAINING_SCANS]),
        labels=dataset.labels,
        minutes=settings.minutes,
        folder=settings.folder / "trained" / f"{dataset.name}_{scans[0].subject}_{settings.minutes:g}min",
        plan=plan,
        device=settings.device,
        say=settings.say,
    )
    trained = trained_tools(lesson, settings.peers)
    made = []
    for scan in scans[TRAINING_SCANS:]:
        name = f"{accuracy.name_of(plan, dataset, scan)}_without_{scans[0].subject}"
        task = accuracy.scored_task(plan, dataset, scan, name)
        facts = {**task.facts, "trained_on": " ".join(scan.subject for scan in lesson.scans)}
        made.append(replace(task, facts=facts, tools=(*tools, *trained)))
    return made


def trained_tools(lesson: Lesson, peers: tuple[str, ...]) -> list[Tool]:
    """What is trained on a lesson, each in a folder of its own."""

    def at(name: str) -> Lesson:
        return replace(lesson, folder=lesson.folder / name)

    made: list[Tool] = [
        SupervisedTool("supervised", at("supervised")),
        SupervisedTool("supervised, naive flips", at("naive"), swap_sides=False),
    ]
    if NNUNET in peers:
        made.append(NnUNetTool("nnU-Net", at(NNUNET), mirror=True))
        made.append(NnUNetTool("nnU-Net, no mirroring", at(f"{NNUNET}-unmirrored"), mirror=False))
    return made


def show(rows: list[Row], lines: list[Row]) -> Shown:
    """What the study of accuracy shows, led by the share of swapped sides."""
    shown = accuracy.show(rows, lines)
    good = [row for row in rows if "error" not in row]
    wrong = {
        name: {"wrong side": [row["laterality_error"] for row in select(chosen, view=SIDES, structure="all")]}
        for name, chosen in series_of(good).items()
    }
    first, second, *rest = shown.plots
    swapped = Plot("laterality", "Laterality error", box_plot(wrong, "share of voxels on the wrong side"),
                   "Of the voxels with the right structure; one half is chance.")  # fmt: skip
    table = summary_table(
        "Laterality error", of_measure(lines, "laterality_error"), {"dataset": "dataset", **DEFAULT_COLUMNS}, 4
    )
    others = [each for each in shown.tables if each.title != table.title]
    return Shown((others[0], table, _trainings(good), *others[1:]), (second, swapped, first, *rest))


def _trainings(rows: list[Row]) -> StudyTable:
    """What each training learnt from, and how long."""
    columns = ("tool", "trained_on", "steps", "minutes", "hardware")
    lines = dict.fromkeys(tuple(row.get(key) for key in columns) for row in rows if row.get("steps"))
    titles = ("tool", "trained on", "steps", "minutes", "on")
    return StudyTable("Trainings", titles, tuple(lines), "Whatever else the machine did took from the steps.", 1)


STUDY = Study("Little data", TEXT, tasks, show, measures=(*MEASURES, "laterality_error"))
