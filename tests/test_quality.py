"""Signs of quality by hand, and what a calibration makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phantomseg.image.image import Image
from phantomseg.inference.quality import FEATURES, Signs, assess, design, logit, read_signs
from phantomseg.inference.volumes import asymmetry_percent, hard_volumes, structures
from phantomseg.labels import label_set

BRAIN = label_set("brain")


def probabilities() -> torch.Tensor:
    """8 voxels of brain at 0.8, 8 at 0.25 beside them, all else background."""
    shares = torch.zeros(3, 6, 6, 6)
    shares[1, 1:3, 1:3, 1:3] = 0.8
    shares[1, 3:5, 1:3, 1:3] = 0.25
    shares[0] = 1 - shares[1]
    return shares.half()


def test_signs_by_hand() -> None:
    signs = read_signs(probabilities(), np.array([1.0, 0.75, 1.0]), torch.tensor([1.0, 0.5, 0.1]), 2.0)
    total = 8 * 0.8 + 8 * 0.25
    assert signs.volume_mm3[0] == pytest.approx(2 * total, rel=1e-3)
    assert signs.expected[0] == pytest.approx(2 * 8 * 0.8 / (8 + total), rel=1e-3)
    assert signs.certainty[0] == pytest.approx((8 * 0.64 + 8 * 0.0625) / total, rel=1e-3)
    assert signs.agreement.tolist() == pytest.approx([0.5, 0.1])
    assert signs.dropped.tolist() == [0.25, 0.0]
    assert signs.cut[0] == 0 and np.isnan(signs.cut[1])  # nothing at a face, and nothing anywhere


def test_what_touches_a_face_counts_as_cut() -> None:
    shares = probabilities()
    shares[1, 0, 1:3, 1:3] = 1.0
    signs = read_signs(shares, np.ones(3), None, 1.0)
    assert signs.cut[0] == pytest.approx(4 / (8 * 0.8 + 8 * 0.25 + 4), rel=1e-3)
    assert np.isnan(signs.agreement).all()


def calibration(**changes: object) -> dict[str, object]:
    fitted = {
        "intercepts": [0.0, 1.0],
        "slopes": [1.0] + [0.0] * (len(FEATURES) - 1),
        "log_share_mean": [0.0, 0.0],
        "log_share_std": [1.0, 1.0],
        "log_ratio_low": [-1.0, -1.0],
        "log_ratio_high": [2.0, 2.0],
        "threshold": 0.6,
    }
    return {"sets": {"brain": {"flip": {**fitted, **changes}}}}


def signs(expected: float = 0.8, volume_mm3: float = 980.0) -> Signs:
    both = np.array([1.0, 1.0])
    return Signs(np.array([expected, 0.5]), 0.9 * both, 0.9 * both, 0 * both, 0 * both, np.array([volume_mm3, 0.0]))


def test_dice_is_predicted_on_the_logit_scale() -> None:
    found = assess(signs(), BRAIN, calibration())
    assert found is not None and found.dice[0] == pytest.approx(0.8)  # the logit of `expected` and nothing else
    assert np.isnan([found.dice[1], found.low_mm3[1], found.high_mm3[1]]).all()  # nothing was found of it
    assert found.mean == pytest.approx(0.8) and found.threshold == 0.6


def test_intervals_widen_with_the_dice_that_is_lost() -> None:
    found = assess(signs(), BRAIN, calibration())
    assert found is not None
    lost = 1 - 0.8 + 0.02
    assert found.low_mm3[0] == pytest.approx(1000 * np.exp(-lost) - 20)
    assert found.high_mm3[0] == pytest.approx(1000 * np.exp(2 * lost) - 20)
    better = assess(signs(expected=0.95), BRAIN, calibration())
    assert better is not None and better.high_mm3[0] - better.low_mm3[0] < found.high_mm3[0] - found.low_mm3[0]
    wide = assess(signs(expected=0.05, volume_mm3=25.0), BRAIN, calibration())
    assert wide is not None and wide.low_mm3[0] == 0  # never below nothing


def test_without_calibration_nothing_is_claimed() -> None:
    assert assess(signs(), label_set("siam"), calibration()) is None
    alone = Signs(**{**vars(signs()), "agreement": np.array([np.nan, np.nan])})
    assert assess(alone, BRAIN, calibration()) is None  # fitted with the mirror image only


def test_unknown_features_are_neutral() -> None:
    features = design(Signs(**{**vars(signs()), "agreement": np.full(2, np.nan)}), np.zeros(2), np.ones(2))
    assert features.shape == (2, len(FEATURES)) and np.isfinite(features).all()
    assert features[0, FEATURES.index("agreement")] == 0
    assert features[0, FEATURES.index("expected")] == pytest.approx(logit(np.array(0.8)))


def test_measures_of_each_structure() -> None:
    labels = label_set("freesurfer")
    soft = dict.fromkeys(labels.names[1:], 0.0) | {"left putamen": 110.0, "right putamen": 90.0}
    voxels = np.zeros((4, 4, 4), np.uint8)
    voxels[0, 0, :3] = 12
    hard = hard_volumes(Image(voxels, np.diag([2.0, 1.0, 1.0, 1.0])), labels)
    rows = {row.name: row for row in structures(labels, soft, hard, None)}
    left = rows["left putamen"]
    assert (left.index, left.volume_mm3, left.hard_mm3, left.asymmetry_percent) == (12, 110.0, 6.0, 20.0)
    assert rows["right putamen"].asymmetry_percent == 20.0 and rows["brain-stem"].asymmetry_percent is None
    assert left.quality is None and left.low_mm3 is None
    assert asymmetry_percent({"left a": 0.0, "right a": 0.0}, "left a", "right a") is None
