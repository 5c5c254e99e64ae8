"""What the results of a scan are called, below the output folder: simple names, or those of a BIDS dataset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath

from phantomseg.image.files import stem

# order of entities in a file name, as in the BIDS specification
ENTITIES = (
    "sub", "tpl", "ses", "cohort", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec",
    "dir", "run", "mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split", "recording", "chunk",
    "atlas", "seg", "scale", "res", "den", "label", "desc",
)  # fmt: skip
_RANK = {entity: rank for rank, entity in enumerate(ENTITIES)}


@dataclass(frozen=True)
class Names:
    """Paths of all results of one scan, relative to the output folder; none of them need exist.

    >>> Names(PurePath("ward"), "scan").segmentation.as_posix()
    'ward/scan_dseg.nii.gz'
    >>> Names(PurePath("sub-01/anat"), "sub-01_run-2", suffix="T1w").segmentation.as_posix()
    'sub-01/anat/sub-01_run-2_seg-phantomseg_dseg.nii.gz'
    """

    folder: PurePath
    prefix: str  # what every name begins with; of a BIDS scan, its entities
    volume: str = ""  # number of the volume in a file of several, zero-padded
    suffix: str = ""  # of a BIDS scan: "T1w"; empty for simple names
    shared: bool = False  # whether results tell the suffix, as scans of another one may have the same entities

    @property
    def bids(self) -> bool:
        """Whether the names are those of BIDS derivatives."""
        return bool(self.suffix)

    @property
    def name(self) -> str:
        """What the scan is called in tables and reports; no other scan of an output folder is called so.

        >>> Names(PurePath("ward"), "scan").name, Names(PurePath("sub-01/anat"), "sub-01", suffix="T1w").name
        ('ward/scan', 'sub-01_T1w')
        """
        volume = f"_volume-{self.volume}" if self.volume else ""
        return f"{self.prefix}_{self.suffix}{volume}" if self.bids else (self.folder / self.prefix).as_posix() + volume

    def of_volume(self, volume: int, count: int) -> Names:
        """Names for one of `count` volumes, so that they sort by number.

        >>> Names(PurePath(), "scan").of_volume(3, 12).report.name
        'scan_volume-03_report.html'
        """
        return replace(self, volume=str(volume).zfill(len(str(count - 1))))

    @property
    def segmentation(self) -> PurePath:
        """Label map on the scan's grid."""
        return self._path("dseg.nii.gz", seg="phantomseg")

    @property
    def table(self) -> PurePath:
        """What the values of the label map mean."""
        return self._path("dseg.tsv", seg="phantomseg")

    @property
    def volumes(self) -> PurePath:
        """Volume of each label."""
        return self._path("morph.tsv", desc="volumes") if self.bids else self._path("volumes.tsv")

    @property
    def probabilities(self) -> PurePath:
        """Probability of each label, four-dimensional."""
        return self._path("probseg.nii.gz", seg="phantomseg") if self.bids else self._path("prob.nii.gz")

    @property
    def mask(self) -> PurePath:
        """Brain mask."""
        return self._path("mask.nii.gz", label="brain")

    @property
    def distance(self) -> PurePath:
        """Distance to the surface of the brain."""
        return self._path("distance.nii.gz", label="brain")

    @property
    def brain(self) -> PurePath:
        """The scan without what is outside the brain mask."""
        return self._image(desc="brain") if self.bids else self._path("brain.nii.gz")

    @property
    def resampled(self) -> PurePath:
        """The scan on a grid of 1 mm."""
        return self._image(res="1mm") if self.bids else self._path("space-1mm_image.nii.gz")

    @property
    def resampled_segmentation(self) -> PurePath:
        """Label map on the grid of 1 mm."""
        return self._path("dseg.nii.gz" if self.bids else "space-1mm_dseg.nii.gz", seg="phantomseg", res="1mm")

    @property
    def report(self) -> PurePath:
        """Page that shows the results."""
        return self._path("report.html", desc="phantomseg")

    @property
    def overlay(self) -> PurePath:
        """Picture of the labels on the scan."""
        return self._path("overlay.png", desc="phantomseg")

    @property
    def manifest(self) -> PurePath:
        """What was done to make the results, and which there are."""
        return self._path("manifest.json", desc="phantomseg")

    @cached_property
    def results(self) -> tuple[PurePath, ...]:
        """Every path that a run may write for this scan, sidecars too."""
        images = [self.segmentation, self.probabilities, self.mask, self.brain, self.distance, self.resampled]
        images.append(self.resampled_segmentation)
        sidecars = images if self.bids else [self.probabilities]
        others = (self.table, self.volumes, self.volumes.with_suffix(".json"), self.report, self.overlay, self.manifest)
        return (*images, *(sidecar(image) for image in sidecars), *others)

    def _path(self, ending: str, **entities: str) -> PurePath:
        if not self.bids:
            volume = f"_volume-{self.volume}" if self.volume else ""
            return self.folder / f"{self.prefix}{volume}_{ending}"
        return self.folder / self._bids_name(ending, entities, self.suffix if self.shared else "")

    def _image(self, **entities: str) -> PurePath:
        return self.folder / self._bids_name(f"{self.suffix}.nii.gz", entities, "")

    def _bids_name(self, ending: str, entities: dict[str, str], contrast: str) -> str:
        own = dict(part.split("-", 1) for part in self.prefix.split("_"))
        volume = f"volume{self.volume}" if self.volume else ""
        desc = [word for word in (entities.get("desc"), own.get("desc"), contrast, volume) if word]
        every = {**own, **entities}
        if desc:  # a label is letters and digits only
            every["desc"] = desc[0] + "".join(word[0].upper() + word[1:] for word in desc[1:])
        return f"{join_entities(every)}_{ending}"


@dataclass(frozen=True)
class Found:
    """A scan and what its results are called, before the volumes of its file are counted."""

    scan: Path
    names: Names
    volume: int | None = None  # asked for by a table
    named: bool = False  # by a table
    participant: str = ""  # of a BIDS dataset
    session: str = ""


def plain_names(scan: Path, folder: PurePath | None = None) -> Names:
    """Names after the file, or after the folder of a DICOM series.

    >>> plain_names(Path("in/head.nii.gz")).prefix
    'head'
    """
    return Names(folder or PurePath(), scan.resolve().name if scan.is_dir() else stem(scan))


def join_entities(entities: dict[str, str]) -> str:
    """Entities as the start of a file name, in the order of the specification; unknown ones stand before `seg`.

    >>> join_entities({"desc": "brain", "run": "1", "sub": "01"})
    'sub-01_run-1_desc-brain'
    """
    ranked = sorted(entities, key=lambda entity: _RANK.get(entity, _RANK["seg"] - 0.5))
    return "_".join(f"{entity}-{entities[entity]}" for entity in ranked)


def sidecar(image: PurePath) -> PurePath:
    """JSON file beside an image.

    >>> sidecar(PurePath("scan_prob.nii.gz")).name
    'scan_prob.json'
    """
    return image.with_name(image.name.removesuffix(".nii.gz") + ".json")
