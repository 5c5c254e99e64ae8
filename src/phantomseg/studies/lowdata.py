"""Networks trained on a few real scans beside one that never saw any: every rotation of training and test scans."""

from __future__ import annotations

from dataclasses import replace

from phantomseg.errors import ScanError
from phantomseg.report.plots import box_plot
from phantomseg.report.study_page import StudyTable
from phantomseg.studies import accuracy
from phantomseg.studies.kept import Row
from phantomseg.studies.matching import Scan
from phantomseg.studies.nnunet import nnunet_available
from phantomseg.studies.plan import Dataset, Plan
from phantomseg.studies.scores import LOWER_IS_BETTER, MEASURES, NUMBERS
from phantomseg.studies.study import Plot, Settings, Shown, Study
from phantomseg.studies.tables import averaged, select, series_of, statistics
from phantomseg.studies.tools import Tool
from phantomseg.studies.trained import Lesson, NnUNetTool, SupervisedTool
from phantomseg.studies.views import SIDES
from phantomseg.studies.work import Task

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
differ, however well it works. A scan that was tested in several rotations counts once, with its mean."""


def tasks(plan: Plan, tools: list[Tool], settings: Settings) -> list[Task]:
    """One task a rotation and test scan.

    Raises:
        ScanError: too few scans, or a peer that is not known or not installed.
    """
    _check_peers(settings.peers)
    made: list[Task] = []
    for dataset in plan.datasets:
        scans = accuracy.referenced(dataset, settings.most)
        if len(scans) <= TRAINING_SCANS or dataset.several:
            continue
        plain = [accuracy.scored_task(plan, dataset, s, accuracy.name_of(plan, dataset, s)) for s in scans]
        made += plain
        for rotation in range(len(scans)):
            turned = [*range(rotation, len(scans)), *range(rotation)]
            made += _rotation(plan, dataset, [scans[n] for n in turned], [plain[n] for n in turned], settings)
    return made


def _check_peers(peers: tuple[str, ...]) -> None:
    unknown = [peer for peer in peers if peer != NNUNET]
    if unknown:
        raise ScanError(f"there is no peer {unknown[0]!r}; --with takes {NNUNET}")
    if peers and not nnunet_available():
        raise ScanError("nnU-Net is not installed; pip install 'phantomseg[nnunet]', or leave out --with nnunet")


def _rotation(plan: Plan, dataset: Dataset, scans: list[Scan], plain: list[Task], settings: Settings) -> list[Task]:
    """Tasks of the scans that are left after the first ones have been learnt from."""
    lesson = Lesson(
        scans=tuple(scans[:TRAINING_SCANS]),
        labels=dataset.labels,
        minutes=settings.minutes,
        folder=settings.folder / "trained",
        plan=plan,
        device=settings.device,
        resume=settings.resume,
        say=settings.say,
    )
    trained = tuple(trained_tools(lesson, settings.peers))
    learnt = " ".join(scan.subject for scan in lesson.scans)
    return [
        replace(
            task,
            name=f"{task.name}_without_{scans[0].subject}",
            facts={**task.facts, "trained_on": learnt},
            tools=trained,
        )
        for task in plain[TRAINING_SCANS:]
    ]


def trained_tools(lesson: Lesson, peers: tuple[str, ...]) -> list[Tool]:
    """What is trained on a lesson."""
    made: list[Tool] = [SupervisedTool("supervised", lesson), SupervisedTool("supervised, naive flips", lesson, False)]
    if NNUNET in peers:
        made += [NnUNetTool("nnU-Net", lesson, mirror=True), NnUNetTool("nnU-Net, no mirroring", lesson, mirror=False)]
    return made


def analyse(rows: list[Row], plan: Plan) -> list[Row]:
    """The usual statistics, in which a scan that was tested in several rotations counts once."""
    measures = (*MEASURES, "laterality_error")
    over = ("trained_on", "steps", "minutes", "hardware", "of", *NUMBERS)
    once = averaged(rows, "scan", over, measures)
    return statistics(once, ("dataset", "view", "structure"), measures, LOWER_IS_BETTER)


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
    return Shown((*shown.tables[:2], _trainings(good), *shown.tables[2:]), (second, swapped, first, *rest))


def _trainings(rows: list[Row]) -> StudyTable:
    """What each training learnt from, and how long."""
    columns = ("tool", "trained_on", "steps", "minutes", "hardware")
    lines = dict.fromkeys(tuple(row.get(key) for key in columns) for row in rows if row.get("minutes"))
    titles = ("tool", "trained on", "steps", "minutes", "on")
    return StudyTable("Trainings", titles, tuple(lines), "What else the machine did took from the steps.", 1)


STUDY = Study(
    "Little data",
    TEXT,
    tasks,
    show,
    analyse=analyse,
    uses=lambda dataset: dataset.referenced,
    wants=f"more than {TRAINING_SCANS} scans with references in one dataset",
)
