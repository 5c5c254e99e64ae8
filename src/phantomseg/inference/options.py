"""What is done with every scan of a batch: labelled, or stripped of what is not brain; and how."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from phantomseg.errors import PhantomSegError
from phantomseg.image.finding import Finding
from phantomseg.image.image import Image
from phantomseg.inference.look import MASK
from phantomseg.inference.results import Outputs, Written, write_results, write_stripped
from phantomseg.inference.segment import Segmentation, segment
from phantomseg.inference.species import AUTO, check_species
from phantomseg.inference.strip import BRAIN, KEPT, Stripped, check_fluid, strip
from phantomseg.network.model import Model

Extra = Callable[[Written, dict[str, Any]], PurePath]
# fields that are recorded otherwise, or decide nothing
NOT_RECORDED = ("outputs", "most_bytes", "resume", "model", "extras")


@dataclass(frozen=True)
class Task(ABC):
    """What all tasks are told; an extra writes one more file, and returns its path."""

    ct: bool | None = None  # computed tomography or not, whatever the values say
    axcodes: str | None = None  # repair of a header: where the voxel axes run to
    most_bytes: float | None = None
    resume: bool = True
    model: str = ""  # name, for the record
    extras: tuple[Extra, ...] = ()

    labels: str = ""  # label set of the results
    any_species = False  # whether scans may show other heads than those of humans

    def record(self) -> dict[str, Any]:
        """What decides the results, as plain values."""
        names = [f.name for f in dataclasses.fields(self) if f.name not in NOT_RECORDED]
        extras = [getattr(extra, "__name__", str(extra)) for extra in self.extras]
        return {**{name: getattr(self, name) for name in names}, "extras": extras}

    @abstractmethod
    def check(self, model: Model) -> None:
        """Refuse what the model cannot do, before any work."""

    def finds_first(self, model: Model) -> bool:
        """Whether the brain is found at low resolution, by a network of its own, before the model sees the scan."""
        return True

    @abstractmethod
    def make(self, scan: Image, model: Model) -> Segmentation:
        """The result of one scan."""

    @abstractmethod
    def write(self, to: Written) -> list[PurePath]:
        """Write everything asked for; returns paths relative to the folder."""

    @abstractmethod
    def findings(self, result: Segmentation) -> list[Finding]:
        """What a result gives to think about."""


@dataclass(frozen=True)
class Options(Task):
    """How every scan is segmented, and what is written."""

    model: str = "head"
    labels: str = "freesurfer"
    flip: bool = True
    refine: bool = True
    outputs: Outputs = field(default_factory=Outputs)

    def record(self) -> dict[str, Any]:
        """Its outputs too."""
        return {**super().record(), **dataclasses.asdict(self.outputs)}

    def check(self, model: Model) -> None:
        """Refuse labels that the model does not predict."""
        model.merge(self.labels)
        self.outputs.chosen_labels(model.label_set(self.labels))
        if self.outputs.brain:
            model.merge(BRAIN)

    def make(self, scan: Image, model: Model) -> Segmentation:
        """Label every voxel."""
        also = (BRAIN,) if self.outputs.brain else ()
        chosen = model if self.refine else dataclasses.replace(model, refines=False)
        return segment(scan, chosen, self.labels, self.flip, also, self.most_bytes)

    def write(self, to: Written) -> list[PurePath]:
        """Label map, volumes, and the outputs."""
        return write_results(to, self.outputs)

    def findings(self, result: Segmentation) -> list[Finding]:
        """No brain, doubtful labels, tiles."""
        assert result.prepared is not None
        found = []
        if result.prepared.middle is None:
            found.append(
                Finding("warning", "no brain was found at low resolution", "look at the labels before any use")
            )
        if result.prepared.enlarged > 1:
            times = f"{result.prepared.enlarged:.2f}"
            found.append(Finding("ok", f"head of an infant or a fetus: the network saw it enlarged {times} times"))
        if result.quality is not None and result.quality.mean < result.quality.threshold:
            found.append(Finding("warning", f"predicted mean Dice is {result.quality.mean:.2f}", "look at the labels"))
        if result.tiles > 1:
            found.append(Finding("ok", f"segmented in {result.tiles} tiles, to keep within memory"))
        return found


@dataclass(frozen=True)
class StripOptions(Task):
    """How the brain of every scan is found, and what is written."""

    model: str = "universal"
    labels: str = MASK
    species: str = AUTO
    border_mm: float = 0.0
    distance: bool = False
    fluid: str = KEPT
    any_species = True

    def check(self, model: Model) -> None:
        """Refuse a model that makes no masks, and species that are not known."""
        model.merge(MASK)
        check_fluid(self.fluid, model)
        check_species(self.species)
        if not abs(self.border_mm) < float("inf"):
            raise PhantomSegError(f"border is {self.border_mm} mm, wanted a finite distance; choose one near 0")

    def finds_first(self, model: Model) -> bool:
        """Only by a model of labels; one of masks looks at the whole scan."""
        return model.reaches(BRAIN)

    def make(self, scan: Image, model: Model) -> Stripped:
        """Find the brain."""
        return strip(scan, model, self.species, self.border_mm, self.fluid, self.most_bytes)

    def write(self, to: Written) -> list[PurePath]:
        """Mask, brain, volume, and the distances if asked for."""
        return write_stripped(to, self.distance)

    def findings(self, result: Segmentation) -> list[Finding]:
        """No brain, or a doubtful one."""
        assert isinstance(result, Stripped)
        return list(result.findings)
