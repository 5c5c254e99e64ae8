"""Studies by name."""

from __future__ import annotations

from phantomseg.errors import ScanError
from phantomseg.studies import ablation, accuracy, atrophy, group, lowdata, repeated, resolution
from phantomseg.studies.study import Study

STUDIES = {
    "accuracy": accuracy.STUDY,
    "resolution": resolution.STUDY,
    "contrast": repeated.CONTRAST,
    "retest": repeated.RETEST,
    "atrophy": atrophy.STUDY,
    "group": group.STUDY,
    "ablation": ablation.STUDY,
    "lowdata": lowdata.STUDY,
}


def find_study(name: str) -> Study:
    """A study by name.

    Raises:
        ScanError: there is none of that name.
    """
    if name not in STUDIES:
        raise ScanError(f"there is no study {name!r}; choose one of {', '.join(STUDIES)}")
    return STUDIES[name]
