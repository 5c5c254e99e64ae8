"""Boundaries of white matter, cortex and fluid: where the scan shows them, not where the network had them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from phantomseg.image.image import Image
from phantomseg.inference.refine import refine, sets_to_refine, smoothness
from phantomseg.inference.tissues import OUTER, REFINED
from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = Model(
    build_network("fast", {"classes": 51, "features": [4, 8], "convolutions": [1, 1], "detail": 2}), label_set("head")
)
OLDER = [label.id for label in label_set("head").labels if not label.parent]
SIZE = 40
INTENSITY = {2: 0.8, 41: 0.8, 3: 0.5, 42: 0.5, 24: 0.15, 4: 0.15, 11: 0.5}


def layers(white_mm: float, pial_mm: float) -> np.ndarray:
    """Values of a ball of white matter within cortex within fluid, left and right, in a box of background."""
    x, y, z = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    radius = np.sqrt(x**2 + y**2 + z**2)
    values = np.select([radius < white_mm, radius < pial_mm, radius < 18], [2, 3, 24], 0)
    return np.where((x > 0) & (values == 2), 41, np.where((x > 0) & (values == 3), 42, values))


def probabilities(values: np.ndarray, name: str, sure: float = 0.8) -> torch.Tensor:
    """The labels, as sure as this; the rest is shared by the others that lie within two voxels."""
    labels = label_set(name)
    ids = labels.index_of_ids(values)
    found = torch.full((len(labels), *values.shape), 0.0)
    found.scatter_(0, torch.from_numpy(ids)[None], sure)
    spread = torch.nn.functional.avg_pool3d(found[None], 5, 1, 2)[0]
    return (found + (1 - sure) * spread / spread.sum(0).clamp(min=1e-6) * (found.sum(0) > 0)).half()


def probabilities_merged(values: np.ndarray, name: str) -> torch.Tensor:
    """Those of values of the set `head`, of which a set may merge several."""
    merged = MODEL.merge(name)
    channels = torch.from_numpy(merged.target.index_of_ids(merged.apply(label_set("head").ids))).long()
    empty = torch.zeros(len(merged.target), *values.shape)
    return empty.index_add_(0, channels, probabilities(values, "head").float()).half()


def image_of(values: np.ndarray, noise: float = 0.03) -> torch.Tensor:
    clean = np.vectorize(lambda value: INTENSITY.get(int(value), 0.0))(values)
    voxels = clean + noise * np.random.default_rng(0).standard_normal(values.shape)
    return torch.from_numpy((voxels * (values > 0)).clip(0, 1).astype(np.float32))


def labelled(sets: dict[str, torch.Tensor], name: str) -> np.ndarray:
    return label_set(name).ids[sets[name].float().argmax(0).numpy()]


def dice(one: np.ndarray, other: np.ndarray, *values: int) -> float:
    first, second = np.isin(one, values), np.isin(other, values)
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_boundaries_go_where_the_scan_shows_them() -> None:
    truth, said = layers(10.8, 13.2), layers(10.0, 14.0)  # the network says cortex of 4 mm, it is 2.4 mm thick
    sets = {name: probabilities(said, name) for name in (REFINED, "freesurfer")}
    before = labelled(sets, "freesurfer")
    refine(sets, image_of(truth), MODEL)
    after = labelled(sets, "freesurfer")
    for values in ((2,), (41,), (3,), (42,), (24,)):
        assert dice(after, truth, *values) > max(0.88, dice(before, truth, *values))
    assert np.array_equal(after == 0, before == 0)
    torch.testing.assert_close(sets["freesurfer"].float().sum(0), torch.ones((SIZE,) * 3), atol=4e-3, rtol=0)


def test_other_sets_follow_and_keep_what_they_do_not_part() -> None:
    truth, said = layers(10.8, 13.2), layers(10.0, 14.0)
    sets = {REFINED: probabilities(said, REFINED)}
    ids = label_set(REFINED).ids
    for name in ("siam", "intracranial"):
        merged = MODEL.merge(name)
        channels = torch.from_numpy(merged.target.index_of_ids(merged.apply(ids))).long()
        sets[name] = (
            torch.zeros(len(merged.target), SIZE, SIZE, SIZE).index_add_(0, channels, sets[REFINED].float()).half()
        )
    whole = sets["intracranial"].clone()
    refine(sets, image_of(truth), MODEL)
    siam = labelled(sets, "siam")
    assert dice(siam == 1, np.isin(truth, (3, 42)), 1) > 0.88 and dice(siam == 2, np.isin(truth, (2, 41)), 1) > 0.88
    torch.testing.assert_close(sets["intracranial"].float(), whole.float(), atol=4e-3, rtol=0)


def test_fluid_stays_where_slices_are_thick() -> None:
    truth, said = layers(10.8, 13.2), layers(10.0, 14.0)
    sets = {name: probabilities(said, name) for name in (REFINED, "freesurfer")}
    refine(sets, image_of(truth), MODEL, thick=True)
    after = labelled(sets, "freesurfer")
    assert np.array_equal(after == 24, said == 24)
    assert dice(after, truth, 2, 41) > dice(said, truth, 2, 41) + 0.01


def test_fluid_stays_where_thick_slices_were_interpolated() -> None:
    truth, said = layers(10.8, 13.2), layers(10.0, 14.0)
    sets = {name: probabilities(said, name) for name in (REFINED, "freesurfer")}
    before = sets["freesurfer"][label_set("freesurfer").names.index("cerebrospinal fluid")].clone()
    smooth = torch.nn.functional.avg_pool3d(image_of(truth)[None], (1, 1, 7), 1, (0, 0, 3), count_include_pad=False)[0]
    refine(sets, smooth, MODEL)
    after = sets["freesurfer"][label_set("freesurfer").names.index("cerebrospinal fluid")]
    torch.testing.assert_close(after, before, atol=4e-3, rtol=0)


def test_least_sets_that_tell_every_tissue() -> None:
    assert sets_to_refine(MODEL, ["freesurfer", "intracranial"]) == ["healthy"]
    assert sets_to_refine(MODEL, ["head"]) == []
    assert sets_to_refine(MODEL, ["brain"]) == [REFINED]
    assert sets_to_refine(MODEL, ["siam", "brain"]) == sets_to_refine(MODEL, ["tissue"]) == [REFINED, OUTER]
    assert sets_to_refine(MODEL, ["lesions"]) == [REFINED, "plexus"]
    assert sets_to_refine(MODEL, ["siam", "head"]) == sets_to_refine(MODEL, ["freesurfer", "head"]) == []
    older = dataclasses.replace(MODEL, labels=label_set("head").only(OLDER))
    assert sets_to_refine(older, ["freesurfer"]) == []  # it knows no lesions


def test_healthy_set_does_as_well() -> None:
    truth, said = layers(10.8, 13.2), layers(10.0, 14.0)
    both = [{name: probabilities(said, name) for name in ("freesurfer", REFINED)} for _ in range(2)]
    every = both[1].pop(REFINED)
    healthy = label_set("healthy")
    both[1]["healthy"] = every[label_set(REFINED).index_of_ids(healthy.ids).tolist()]
    for sets in both:
        refine(sets, image_of(truth), MODEL)
    torch.testing.assert_close(both[0]["freesurfer"], both[1]["freesurfer"], atol=4e-3, rtol=0)


def shells(dura_mm: float, bone_mm: float) -> np.ndarray:
    """Values of cortex within fluid, dura of some thickness, bone and soft tissue, and a vessel in the fluid."""
    x, y, z = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    radius = np.sqrt(x**2 + y**2 + z**2)
    values = np.select(
        [radius < 9, radius < 12, radius < 12 + dura_mm, radius < bone_mm, radius < 19], [3, 24, 520, 515, 507]
    )
    values[(values == 3) & (x > 0)] = 42
    values[(np.abs(x) < 2) & (y > 9) & (radius < 12)] = 514
    return values


@pytest.mark.parametrize("name", ["head", "siam"])
def test_tissues_around_the_brain_go_where_the_scan_shows_them(name: str) -> None:
    truth, said = shells(2, 17), shells(1.4, 16.4)
    said[said == 514] = np.where(np.indices((SIZE,) * 3)[1][said == 514] > 30, 514, 24)  # its inner layer is missed
    sets = {other: probabilities_merged(said, other) for other in (name, "intracranial", REFINED, OUTER)}
    inner = sets["intracranial"].clone()
    refine(sets, around(truth), MODEL)
    merge = MODEL.merge(name)
    found, wanted, before = labelled(sets, name), merge.apply(truth), merge.apply(said)
    for value in merge.apply(np.array([24, 520, 514, 515, 507])):
        assert dice(found, wanted, value) > max(0.85, dice(before, wanted, value)), value
    assert torch.equal(sets["intracranial"], inner)  # it does not depend on what else is asked for
    torch.testing.assert_close(sets[name].float().sum(0), torch.ones((SIZE,) * 3), atol=4e-3, rtol=0)


def around(values: np.ndarray) -> torch.Tensor:
    clean = np.vectorize({0: 0.0, 3: 0.6, 42: 0.6, 24: 0.15, 520: 0.4, 514: 0.85, 515: 0.1, 507: 0.7}.get)(values)
    voxels = clean + 0.05 * np.random.default_rng(0).standard_normal(values.shape)
    return torch.from_numpy((voxels * (values > 0)).clip(0.005, 1).astype(np.float32) * (values > 0))


def test_flat_grids() -> None:
    sets = {REFINED: torch.rand(len(label_set(REFINED)), 20, 20, 1).softmax(0).half()}
    refine(sets, torch.rand(20, 20, 1), MODEL)
    torch.testing.assert_close(sets[REFINED].float().sum(0), torch.ones(20, 20, 1), atol=4e-3, rtol=0)


def test_no_set_changes_with_what_is_asked_for_beside_it() -> None:
    truth, said = shells(2, 17), shells(1.4, 16.4)
    alone, beside = ({"freesurfer": probabilities_merged(said, "freesurfer")} for _ in range(2))
    alone["healthy"] = probabilities_merged(said, "healthy")
    beside |= {name: probabilities_merged(said, name) for name in ("head", "siam", "healthy")}
    for sets in (alone, beside):
        refine(sets, around(truth), MODEL)
    torch.testing.assert_close(alone["freesurfer"], beside["freesurfer"], atol=4e-3, rtol=0)
    assert dice(labelled(beside, "siam"), MODEL.merge("siam").apply(truth), 13) > 0.85


@pytest.mark.parametrize("ct", [False, True])
def test_hyperintense_lesions_are_found_but_on_ct(ct: bool) -> None:
    values = layers(10.8, 13.2)
    lesion = np.zeros(values.shape, dtype=bool)
    lesion[12:16, 18:22, 18:22] = True
    seen = np.where(lesion, 25, values)
    intensity = {2: 0.5, 41: 0.5, 3: 0.6, 42: 0.6, 24: 0.1, 25: 0.95}
    image = torch.from_numpy(np.vectorize(lambda value: intensity.get(int(value), 0.0))(seen).astype(np.float32))
    image += 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * (image > 0)
    sets = {"head": probabilities(values, "head")}
    lesions = int(label_set("head").index_of_ids(np.array([25]))[0])
    sets["head"][:, lesion] *= 0.8
    sets["head"][lesions][lesion] += 0.2
    refine(sets, image, MODEL, ct=ct)
    assert (labelled(sets, "head")[lesion] == 25).mean() == (0.0 if ct else 1.0)


def test_heads_that_were_enlarged_are_no_smooth_scans() -> None:
    truth, said = layers(10.8, 13.2), layers(10.0, 14.0)
    coarse = image_of(truth[::2, ::2, ::2], 0.01)
    twice = torch.nn.functional.interpolate(coarse[None, None], scale_factor=2, mode="trilinear")
    mask = torch.from_numpy(truth > 0)
    assert smoothness(twice[0, 0], mask) > 0.9 > 0.85 > smoothness(twice[0, 0], mask, 2)
    moved = []
    for enlarged in (1.0, 2.0):
        sets = {name: probabilities(said, name) for name in (REFINED, "freesurfer")}
        refine(sets, twice[0, 0], MODEL, enlarged=enlarged)
        moved.append(int(((labelled(sets, "freesurfer") == 24) != (said == 24)).sum()))
    assert moved[0] == 0 < moved[1]


def test_smoothness_by_hand() -> None:
    mask = torch.ones(6, 6, 6, dtype=torch.bool)
    stripes = torch.tensor([0.0, 1, 0, 1, 0, 1])  # all of the change is gone after two voxels
    assert smoothness(stripes[:, None, None].expand(6, 6, 6), mask) == 0.0
    steps = torch.tensor([0.0, 0, 1, 1, 2, 2])  # changes over one voxel 0, 1, 0, 1, over two 1 each
    assert smoothness(steps[None, :, None].expand(6, 6, 6), mask) == 4 / (4 * 2)
    assert smoothness(torch.zeros(6, 6, 6), ~mask) == 0.0


def test_nuclei_and_ventricles_within_white_matter() -> None:
    x, y, z = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    caudate, ventricle = (np.sqrt((x - c) ** 2 + y**2 + z**2) for c in (9, -9))
    truth = np.select([ventricle < 8, caudate < 7], [4, 11], 2)
    said = np.select([ventricle < 7, caudate < 8], [4, 11], 2)
    sets = {name: probabilities(said, name) for name in (REFINED, "freesurfer")}
    refine(sets, image_of(truth), MODEL)
    after = labelled(sets, "freesurfer")
    for value in (4, 11):
        assert dice(after, truth, value) > max(0.95, dice(said, truth, value))
    sets = {name: probabilities(said, name) for name in (REFINED, "freesurfer")}
    refine(sets, image_of(truth), MODEL, thick=True)
    assert np.array_equal(labelled(sets, "freesurfer"), said)


def test_without_contrast_the_network_is_believed() -> None:
    said = layers(11.0, 13.2)
    sets = {name: probabilities(said, name) for name in (REFINED, "freesurfer")}
    before = labelled(sets, "freesurfer")
    noise = np.random.default_rng(0).standard_normal(said.shape)
    flat = torch.from_numpy(np.where(said > 0, 0.5 + 0.1 * noise, 0).astype(np.float32))
    refine(sets, flat.clamp(0, 1), MODEL)
    assert (labelled(sets, "freesurfer") == before)[said > 0].mean() > 0.97


def test_scan_without_a_brain_is_left_alone() -> None:
    sets = {name: probabilities(np.zeros((8, 8, 8), int), name) for name in (REFINED, "freesurfer")}
    before = sets["freesurfer"].clone()
    refine(sets, torch.rand(8, 8, 8), MODEL)
    assert torch.equal(sets["freesurfer"], before)


def test_result_holds_no_set_that_was_not_asked_for() -> None:
    from phantomseg.inference.segment import segment

    scan = Image(np.random.default_rng(0).random((32, 32, 32), dtype=np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
    assert set(segment(scan, MODEL).probabilities) == {"freesurfer", "intracranial"}
    assert REFINED in segment(scan, MODEL, also=(REFINED,)).probabilities
