"""Lesions that are brighter than white matter and cortex: found where fluid is dark, and the network sees some."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phantomseg.inference.hyperintense import move_hyperintense
from phantomseg.inference.tissues import REFINED
from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = Model(
    build_network("fast", {"classes": 51, "features": [4, 8], "convolutions": [1, 1], "detail": 2}), label_set("head")
)
SIZE = 40
FLAIR = {2: 0.6, 41: 0.6, 3: 0.7, 42: 0.7, 24: 0.1, 25: 0.95}
IN_WHITE, AT_CORTEX, SPECK = (12, 20, 20), (20, 30, 20), (28, 20, 20)  # of 3³, 3³ and 1 voxels


def truth() -> np.ndarray:
    """Values of a ball of white matter with lesions within cortex within fluid, left and right."""
    x, y, z = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    radius = np.sqrt(x**2 + y**2 + z**2)
    values = np.select([radius < 12, radius < 15, radius < 18], [2, 3, 24], 0)
    values = np.where((x > 0) & (values == 2), 41, np.where((x > 0) & (values == 3), 42, values))
    for (i, j, k), reach in ((IN_WHITE, 1), (AT_CORTEX, 1), (SPECK, 0)):
        values[i - reach : i + reach + 1, j - reach : j + reach + 1, k - reach : k + reach + 1] = 25
    return values


def image(intensity: dict[int, float]) -> torch.Tensor:
    values = truth()
    clean = np.vectorize(lambda value: intensity.get(int(value), 0.0))(values)
    voxels = clean + 0.02 * np.random.default_rng(0).standard_normal(values.shape)
    return torch.from_numpy((voxels * (values > 0)).clip(0, 1).astype(np.float32))


def predicted(*names: str, seen: float = 0.3) -> dict[str, torch.Tensor]:
    """Lesions taken for white matter, or for cortex beside it; `seen` of the one in white matter is lesion."""
    values = truth()
    lesions = values == 25
    x, y, _ = np.indices(values.shape)
    right, outermost = x > 19, y > 30  # of AT_CORTEX
    values[lesions] = np.select([outermost & right, outermost, right], [42, 3, 41], 2)[lesions]
    ids = label_set("head").index_of_ids(values)
    head = torch.zeros(len(label_set("head")), *values.shape).scatter_(0, torch.from_numpy(ids)[None], 1.0)
    white, lesion = (int(label_set("head").index_of_ids(np.array([value]))[0]) for value in (2, 25))
    there = torch.zeros(values.shape, dtype=torch.bool)
    there[11:14, 19:22, 19:22] = True
    head[white, there], head[lesion, there] = 1 - seen, seen
    sets = {}
    for name in names:
        merged = MODEL.merge(name)
        channels = torch.as_tensor(merged.channels).long()
        known = torch.from_numpy(label_set("head").index_of_ids(np.array(merged.source_ids))).long()
        sets[name] = torch.zeros(len(merged.target), *values.shape).index_add_(0, channels, head[known]).half()
    return sets


def labelled(sets: dict[str, torch.Tensor], name: str) -> np.ndarray:
    return label_set(name).ids[sets[name].float().argmax(0).numpy()]


def test_lesions_are_found_voxel_by_voxel() -> None:
    others = (REFINED, "freesurfer", "siam")
    sets = predicted("lesions", *others)
    before = {name: sets[name].clone() for name in others}
    move_hyperintense(sets, image(FLAIR), MODEL)
    found = labelled(sets, "lesions") == 77
    wanted = truth() == 25
    wanted[SPECK] = False  # fewer than five voxels
    assert found.sum() == 54 and np.array_equal(found, wanted)
    for name in others:  # do not change with what is asked for beside them
        assert torch.equal(sets[name], before[name])
    for found_set in sets.values():
        assert float(found_set.min()) >= 0
        torch.testing.assert_close(found_set.float().sum(0), torch.ones((SIZE,) * 3), atol=1e-3, rtol=0)


def test_a_large_lesion_does_not_hide_itself() -> None:
    x, y, z = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    lesion = np.sqrt((x + 3) ** 2 + y**2 + z**2) < 8
    bright = image(FLAIR)
    bright[torch.from_numpy(lesion)] = 0.75
    sets = predicted("lesions", REFINED)
    white, said = (label_set("lesions").index_of_ids(np.array([value]))[0] for value in (2, 77))
    within = torch.from_numpy(lesion & (labelled(sets, "lesions") == 2))
    sets["lesions"][white, within] -= 0.1  # the network takes it for white matter, but for a tenth
    sets["lesions"][said, within] += 0.1
    move_hyperintense(sets, bright, MODEL)
    assert (labelled(sets, "lesions")[lesion] == 77).mean() > 0.99


def test_left_and_right_are_told_apart_in_head() -> None:
    sets = predicted("head")
    move_hyperintense(sets, image(FLAIR), MODEL)
    found = labelled(sets, "head")
    assert (found[11:14, 19:22, 19:22] == 25).all()
    assert (found[19, 29:32, 19:22] == 25).all() and (found[20:22, 29:32, 19:22] == 57).all()
    assert found[SPECK] == 41


@pytest.mark.parametrize(
    "intensity",
    [
        {2: 0.8, 41: 0.8, 3: 0.5, 42: 0.5, 24: 0.1, 25: 0.95},
        {2: 0.4, 41: 0.4, 3: 0.5, 42: 0.5, 24: 0.9, 25: 0.95},
        {**FLAIR, 25: 0.7},
    ],
    ids=["T1", "T2", "lesions like cortex"],
)
def test_other_contrasts_are_left_alone(intensity: dict[int, float]) -> None:
    sets = predicted("lesions", REFINED)
    before = {name: found.clone() for name, found in sets.items()}
    move_hyperintense(sets, image(intensity), MODEL)
    assert all(torch.equal(found, before[name]) for name, found in sets.items())


@pytest.mark.parametrize("seen", [0.0, 0.02])
def test_the_network_must_see_lesions(seen: float) -> None:
    sets = predicted("lesions", REFINED, seen=seen)
    move_hyperintense(sets, image(FLAIR), MODEL)
    assert not (labelled(sets, "lesions") == 77).any()


def test_sets_without_lesions_stay() -> None:
    sets = predicted("freesurfer", REFINED)
    before = sets["freesurfer"].clone()
    move_hyperintense(sets, image(FLAIR), MODEL)
    assert torch.equal(sets["freesurfer"], before)
