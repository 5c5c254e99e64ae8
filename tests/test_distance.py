"""Distances of a short reach against scipy's exact ones, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from phantomseg.image.distance import FAR, LONGEST_REACH, nearest_label, signed_distance, squared_distance


def test_squared_distance_is_exact_within_reach() -> None:
    inside = torch.rand((20, 24, 18), generator=torch.Generator().manual_seed(0)) > 0.98
    wanted = np.rint(ndimage.distance_transform_edt(~inside.numpy()) ** 2)
    found = squared_distance(inside, 4).numpy()
    near = wanted <= 16
    assert np.array_equal(found[near], wanted[near]) and (found[~near] > 16).all()
    assert squared_distance(torch.zeros(3, 3, 3, dtype=torch.bool), 2).unique().tolist() == [FAR]


@pytest.mark.parametrize("reach", range(1, LONGEST_REACH + 1))
def test_signed_distances_are_exact_within_any_reach(reach: int) -> None:
    mask = torch.rand((20, 24, 18), generator=torch.Generator().manual_seed(reach)) > 0.98
    outside, within = (ndimage.distance_transform_edt(part) for part in (~mask.numpy(), mask.numpy()))
    wanted = np.where(mask.numpy(), 0.5 - within, outside - 0.5).clip(-reach, reach)
    assert np.abs(signed_distance(mask, reach).numpy() - wanted).max() < 1e-5


def test_reaches_are_limited() -> None:
    with pytest.raises(ValueError, match=f"wanted 1 to {LONGEST_REACH}"):
        signed_distance(torch.ones(5, 5, 5, dtype=torch.bool), LONGEST_REACH + 1)


def test_nearest_label_is_that_of_the_nearest_voxel() -> None:
    labels = torch.zeros(9, 9, 9, dtype=torch.uint8)
    labels[1, 4, 4], labels[7, 4, 4] = 5, 63
    squared, nearest = nearest_label(labels, labels > 0, 4)
    assert squared[3, 4, 4] == 4 and nearest[3, 4, 4] == 5
    assert squared[6, 3, 4] == 2 and nearest[6, 3, 4] == 63


def test_signed_distance_of_a_mask() -> None:
    mask = torch.zeros(9, 9, 9, dtype=torch.bool)
    mask[4, 4, 4] = True
    found = signed_distance(mask, 3)
    assert found[4, 4, 4].item() == -0.5 and found[4, 4, 6].item() == 1.5
    assert found[4, 5, 5].item() == pytest.approx(math.sqrt(2) - 0.5) and found[0, 0, 0].item() == 3
    assert signed_distance(torch.zeros(5, 5, 5, dtype=torch.bool), 2).unique().tolist() == [2]
    assert signed_distance(torch.ones(5, 5, 5, dtype=torch.bool), 2).unique().tolist() == [-2]
