"""Large scans in tiles: all of it is covered, weights add up, labels are those of the whole, and memory decides."""

from __future__ import annotations

import itertools
from pathlib import Path

import lively
import numpy as np
import phantom
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from phantomseg.errors import MemoryLimitError
from phantomseg.image.image import Image
from phantomseg.inference import segment as segmenting
from phantomseg.inference.memory import FIXED_BYTES, IMAGE_BYTES, PROBABILITY_BYTES, needed_bytes, plan_tiles
from phantomseg.inference.predict import predict
from phantomseg.inference.tiles import OVERLAP_VOXELS, Tiles
from phantomseg.labels import label_set
from phantomseg.network.model import Model, load_model
from phantomseg.network.norms import Norms
from phantomseg.network.volume import Block

pytestmark = pytest.mark.usefixtures("one_thread")
FREESURFER = label_set("freesurfer")


class Painter(nn.Module):
    """Labels a voxel by its own grey value and those of its neighbours along the first axis."""

    multiple, bytes_a_voxel = 16, 500

    def __init__(self, normed: bool = False) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.norm = nn.GroupNorm(1, 1) if normed else nn.Identity()

    def encode(self, image: torch.Tensor, norms: Norms | None = None) -> torch.Tensor:
        wide = F.pad(image, (0, 0, 0, 0, 1, 1))
        near = (wide[:, :, :-2] + image + wide[:, :, 2:]) / 3
        return 12 * torch.cos(torch.arange(len(FREESURFER)).view(1, -1, 1, 1, 1) * near)

    def decode(self, encoded: torch.Tensor, image: torch.Tensor, block: Block) -> torch.Tensor:
        return encoded[(..., *block)]


SHAPES = [(16, 16, 16), (192, 16, 16), (208, 32, 16), (400, 16, 16), (320, 240, 16), (16, 192, 208)]


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_of_tiles_add_up_to_1_in_every_voxel(shape: tuple[int, int, int]) -> None:
    for lengths in itertools.product(*({size, min(size, 144), min(size, 128)} for size in shape)):
        tiles = Tiles(shape, lengths, 16)
        total = torch.zeros(shape)
        for block in tiles:
            assert all(s.start % 16 == 0 and s.stop <= size for s, size in zip(block, shape, strict=True))
            weight = tiles.weight(block)
            assert weight.shape == lengths and weight.min() >= 0
            total[block] += weight
        assert len(tiles) == len(list(tiles))
        torch.testing.assert_close(total, torch.ones(shape), atol=1e-5, rtol=0)


def test_neighbours_overlap() -> None:
    for size in range(192, 720, 16):
        tiles = Tiles((size, 16, 16), (144, 16, 16), 16)
        starts = [block[0].start for block in tiles]
        assert starts[0] == 0 and starts[-1] == size - 144
        gaps = [144 - (after - before) for before, after in itertools.pairwise(starts)]
        assert min(gaps) >= OVERLAP_VOXELS - 16  # as ends are multiples of 16


def test_tiles_give_what_the_whole_gives() -> None:
    model = Model(Painter(), FREESURFER)
    image = torch.rand(1, 1, 208, 16, 32, generator=torch.Generator().manual_seed(0))
    tiles = Tiles((208, 16, 32), (144, 16, 32), 16)
    assert len(tiles) == 2
    for flip in (False, True):
        whole = predict(model, image, ["freesurfer"], flip)
        parts = predict(model, image, ["freesurfer"], flip, tiles=tiles)
        difference = (whole.sets[0].float() - parts.sets[0].float()).abs()
        # all but the last voxel of a tile, whose neighbour it does not see, and which has next to no weight
        assert difference.max() < 3e-3
        same = whole.sets[0].argmax(0) == parts.sets[0].argmax(0)
        assert same.float().mean() > 0.999


def test_trained_network_in_tiles_keeps_the_norms_of_the_whole(tmp_path: Path) -> None:
    model = load_model(lively.model(tmp_path / "model"))
    head = np.concatenate([phantom.head((48, 48, 48)), phantom.head((48, 48, 48))[:, ::-1] // 2] * 2)
    image = torch.from_numpy(head / 511).float().clamp(0, 1)[None, None]  # (1, 1, 192, 48, 48)
    whole = predict(model, image, ["head"], flip=True)
    parts = predict(model, image, ["head"], flip=True, tiles=Tiles((192, 48, 48), (128, 48, 48), 4))
    assert (whole.sets[0].argmax(0) == parts.sets[0].argmax(0)).float().mean() > 0.99
    assert (whole.sets[0].float() - parts.sets[0].float()).abs().mean() < 1e-3
    assert whole.agreement is not None and parts.agreement is not None
    known = whole.agreement.isfinite()
    assert (whole.agreement - parts.agreement)[known].abs().max() < 0.1


def test_plan_is_the_largest_that_fits() -> None:
    shape, channels = (320, 240, 16), 10
    whole = Tiles(shape, shape, 16)
    everything = needed_bytes(whole, channels, Painter())
    voxels = 320 * 240 * 16
    assert everything == FIXED_BYTES + voxels * (IMAGE_BYTES + 500 + PROBABILITY_BYTES * channels)
    assert plan_tiles(shape, channels, Painter(), everything) == whole
    before = everything
    while True:
        try:
            tiles = plan_tiles(shape, channels, Painter(), before - 1)
        except MemoryLimitError:
            break
        needed = needed_bytes(tiles, channels, Painter())
        assert needed < before and len(tiles) > 1
        assert plan_tiles(shape, channels, Painter(), needed) == tiles
        before = needed
    assert before < 0.8 * everything
    assert needed_bytes(whole, channels, Painter(), 1000) > everything  # what is done afterwards counts
    with pytest.raises(MemoryLimitError, match=r"scan needs 0.4 GB beside .* and may use 0.0 GB; raise --max-memory"):
        plan_tiles(shape, channels, Painter(), -5.0)


def test_norms_want_one_pass_over_everything() -> None:
    tiles = Tiles((320, 240, 16), (192, 144, 16), 16)
    assert needed_bytes(tiles, 10, Painter(normed=True)) > needed_bytes(tiles, 10, Painter())


def test_little_memory_means_tiles_and_the_same_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenting, "used_bytes", lambda: 0.0)
    model = Model(Painter(), FREESURFER)
    voxels = np.random.default_rng(0).uniform(1, 2, (208, 24, 24)).astype(np.float32)
    scan = Image(voxels, np.eye(4))
    whole = segmenting.segment(scan, model, flip=False)
    shape = whole.prepared.grid.shape if whole.prepared else (0, 0, 0)
    needed = needed_bytes(Tiles(shape, shape, 16), len(FREESURFER), Painter())
    parts = segmenting.segment(scan, model, flip=False, most_bytes=needed - 1)
    assert (whole.tiles, parts.tiles) == (1, 2)
    assert (whole.image.voxels == parts.image.voxels).mean() > 0.995
    for name, volume in whole.volumes_mm3.items():
        assert parts.volumes_mm3[name] == pytest.approx(volume, rel=0.01, abs=2)
    with pytest.raises(MemoryLimitError, match="crop the scan to the head"):
        segmenting.segment(scan, model, flip=False, most_bytes=1e6)
