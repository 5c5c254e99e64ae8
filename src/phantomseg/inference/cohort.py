"""Many scans, one after the other: what fails is reported, the rest is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from phantomseg.errors import PhantomSegError, ScanError, one_sentence
from phantomseg.image.files import read_image, stem, write_image
from phantomseg.image.image import Image
from phantomseg.inference.segment import Segmentation, segment
from phantomseg.inference.volumes import add_volumes
from phantomseg.labels import label_set, merge
from phantomseg.network.model import Model

Extra = Callable[[Path, Image, Segmentation], Path]


@dataclass(frozen=True)
class Options:
    """How every scan is segmented, and what else is written: an extra gets folder/NAME and returns its file."""

    labels: str = "freesurfer"
    flip: bool = True
    extras: tuple[Extra, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of one scan: the files written, or the reason why not."""

    scan: Path
    written: tuple[Path, ...] = ()
    error: str = ""


def segment_files(scans: list[Path], folder: Path, model: Model, options: Options) -> Iterator[Outcome]:
    """Segment each scan into `folder`: NAME_dseg.nii.gz, volumes.csv, and the extras.

    Raises:
        ScanError: two scans would be written to the same file.
        LabelError: the model does not predict such a label set.
    """
    merge(model.labels.name, label_set(options.labels).name)
    names: dict[str, Path] = {}
    for scan in scans:
        other = names.setdefault(stem(scan), scan)
        if other is not scan:
            raise ScanError(f"{other} and {scan} would both be written to {stem(scan)}_dseg.nii.gz; rename one")
    for scan in scans:
        try:
            image = read_image(scan)
            result = segment(image, model, options.labels, options.flip)
            written = [folder / f"{stem(scan)}_dseg.nii.gz", folder / "volumes.csv"]
            add_volumes(written[1], str(scan), _columns(result))  # first, as it refuses a table of other labels
            write_image(written[0], result.image)
            written += [extra(folder / stem(scan), image, result) for extra in options.extras]
        except (PhantomSegError, MemoryError, RuntimeError, OSError) as error:  # torch lacks memory by RuntimeError
            reason = one_sentence(error)
            yield Outcome(scan, error=reason if str(scan) in reason else f"{scan}: {reason}")
            continue
        yield Outcome(scan, tuple(written))


def _columns(result: Segmentation) -> dict[str, float]:
    total = result.intracranial_mm3
    return result.volumes_mm3 if total is None else {**result.volumes_mm3, "total intracranial volume": total}
