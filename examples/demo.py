"""Segment the MNI152 average head that nilearn carries, and say what was written."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from phantomseg.cli.main import main


def scan() -> Path:
    """The T1 average of 152 heads at 1 mm, from nilearn's own files (no download)."""
    return Path(
        str(resources.files("nilearn.datasets").joinpath("data", "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"))
    )


if __name__ == "__main__":
    main(["segment", str(scan()), "-o", "demo", "--overlay"])
