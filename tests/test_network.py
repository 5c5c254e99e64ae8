"""Networks: shapes, sizes, and that a block of the volume is a block of the volume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from phantomseg.errors import ModelError
from phantomseg.labels import label_set
from phantomseg.network.fast import FastConfig, FastNet, cropped, double, fold, pointwise_doubled, unfold_beside
from phantomseg.network.model import Model, build_network, load_model, network_name, save_model
from phantomseg.network.norms import Norms, kept
from phantomseg.network.unet import UNet, UNetConfig

SMALL = FastConfig(classes=3, features=(4, 6, 8), convolutions=(1, 1, 2), detail=2)


def test_unet_has_the_papers_number_of_weights() -> None:
    count = sum(p.numel() for p in UNet(UNetConfig(classes=32)).parameters())
    assert count == 13_238_408 + 2_208  # convolutions, and scale and shift of the norms
    assert sum(p.numel() for p in UNet(UNetConfig(classes=33)).parameters()) == 13_238_433 + 2_208


def test_unet_takes_its_skips_before_the_norm() -> None:
    network = UNet(UNetConfig(classes=2, levels=2, features=2)).eval()
    image = torch.rand(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = network.down[0](image)
        deep = network.down_norm[1](network.down[1](torch.nn.functional.max_pool3d(network.down_norm[0](first), 2)))
        joined = torch.cat([first, double(deep)], dim=1)
        wanted = network.likelihood(network.up_norm[0](network.up[0](joined)))
        assert torch.allclose(network(image), wanted, atol=1e-6)


TWICE = replace(SMALL, detail_convolutions=2)


@pytest.mark.parametrize("network", [FastNet(SMALL), FastNet(TWICE), UNet(UNetConfig(classes=3, levels=3, features=2))])
def test_logits_of_a_block_are_those_of_the_whole(network: torch.nn.Module) -> None:
    network.eval()
    image = torch.rand(2, 1, 16, 24, 16, generator=torch.Generator().manual_seed(0))
    assert image.shape[2] % network.multiple == 0
    with torch.no_grad():
        whole = network(image)
        block = (slice(4, 10), slice(0, 24), slice(6, 16))
        part = network.decode(network.encode(image), image, block)
    assert whole.shape == (2, 3, 16, 24, 16)
    assert torch.allclose(part, whole[:, :, 4:10, :, 6:16], atol=1e-5)


def test_norms_as_in_a_block_do_not_see_what_is_far_outside_of_it() -> None:
    network = FastNet(SMALL).eval()
    image = torch.rand(1, 1, 128, 16, 16, generator=torch.Generator().manual_seed(0))
    more = torch.cat([image, torch.full_like(image, 9.0)], dim=2)
    block = (slice(0, 16), slice(0, 16), slice(0, 16))
    with torch.no_grad():
        near = image[:, :, :16]
        assert torch.allclose(network.encode(near, Norms(block)), network.encode(near), atol=1e-5)
        norms = Norms(block)
        alone, beside = (network.encode(x, n)[:, :, :4] for x, n in ((image, norms), (more, Norms(block))))
        over_all = network.encode(more)[:, :, :4]
        again = network.encode(image, kept(norms))[:, :, :4]
    assert torch.allclose(alone, beside, atol=1e-5)
    assert not torch.allclose(alone, over_all, atol=0.1)
    assert torch.equal(alone, again)


def test_fast_refuses_more_convolutions_than_its_rim_is_wide() -> None:
    with pytest.raises(ModelError, match="detail_convolutions is 3, wanted 1 or 2"):
        replace(SMALL, detail_convolutions=3)


def test_fast_supervises_half_resolution_everywhere_and_full_in_the_block() -> None:
    image = torch.rand(1, 1, 16, 16, 16)
    block = (slice(0, 8), slice(4, 12), slice(8, 16))
    (coarse, everywhere), (fine, there) = FastNet(SMALL).supervised(image, block)
    assert coarse.shape == (1, 3, 8, 8, 8) and everywhere == (slice(0, 16),) * 3
    assert fine.shape == (1, 3, 8, 8, 8) and there == block


def test_every_weight_of_fast_learns() -> None:
    network = FastNet(SMALL)
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    outputs = network.supervised(image, (slice(0, 8),) * 3)
    torch.stack([(logits * torch.randn_like(logits)).sum() for logits, _ in outputs]).sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert without == []


def test_fold_and_unfold_are_opposites() -> None:
    image = torch.rand(2, 1, 4, 6, 8)
    assert fold(image)[0, :, 1, 2, 3].tolist() == image[0, 0, 2:4, 4:6, 6:8].flatten().tolist()
    beside = torch.rand(2, 4, 6, 8, 1)
    assert torch.equal(unfold_beside(fold(image).movedim(1, -1), beside), torch.cat([image.movedim(1, -1), beside], -1))


@torch.no_grad()
def test_pointwise_doubled_adds_what_both_convolutions_give() -> None:
    fine, coarse = torch.nn.Conv3d(3, 2, 1), torch.nn.Conv3d(4, 2, 1)
    x, y = torch.rand(2, 4, 6, 2, 3), torch.rand(2, 2, 3, 1, 4)
    wanted = fine(x.movedim(-1, 1)) + double(coarse(y.movedim(-1, 1)))
    assert torch.allclose(pointwise_doubled(fine, x, coarse, y).movedim(-1, 1), wanted, atol=1e-6)


def test_gradients_written_by_hand_equal_finite_differences() -> None:
    fine, coarse = torch.nn.Conv3d(3, 2, 1).double(), torch.nn.Conv3d(2, 2, 1).double()
    x = torch.rand(1, 2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    y = torch.rand(1, 1, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    folded = torch.rand(1, 1, 2, 1, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: pointwise_doubled(fine, x, coarse, y), (x, y))
    assert torch.autograd.gradcheck(lambda folded: unfold_beside(folded, x.detach()[..., :1]), folded)


def test_cropped_is_a_slice_and_so_is_its_gradient() -> None:
    x = torch.rand(1, 3, 4, 2, 2, requires_grad=True)
    part = cropped(x, (slice(1, 3), slice(0, 2), slice(0, 2)))
    assert torch.equal(part, x[:, 1:3, :2]) and part.is_contiguous()
    part.sum().backward()
    assert x.grad is not None and x.grad[:, 1:3, :2].min() == 1 and x.grad.sum() == part.numel()


def test_double_repeats_voxels() -> None:
    x = torch.rand(1, 2, 2, 3, 2)
    assert torch.equal(double(x), torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest"))


def test_fast_weights_fit_in_16_megabytes() -> None:
    count = sum(p.numel() for p in FastNet(FastConfig(len(label_set("head")))).parameters())
    assert 2 * count < 16e6


@pytest.mark.parametrize("kind", ["fast", "unet"])
def test_model_survives_its_folder(tmp_path: Path, kind: str) -> None:
    config = {"fast": {"features": [4, 8], "convolutions": [1, 1]}, "unet": {"levels": 2, "features": 2}}[kind]
    network = build_network(kind, {"classes": 3, **config}).half().float().eval()
    save_model(tmp_path, Model(network, label_set("brain"), 1.0, {"steps": 3}))
    again = load_model(tmp_path)
    image = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(network(image), again.network(image))
    assert (again.labels, again.record, network_name(again.network)) == (label_set("brain"), {"steps": 3}, kind)


def test_model_of_a_changed_label_set_is_refused(tmp_path: Path) -> None:
    save_model(
        tmp_path, Model(build_network("fast", {"classes": 3, "features": [4], "convolutions": [1]}), label_set("brain"))
    )
    description = json.loads((tmp_path / "model.json").read_text())
    description["label_ids"][-1] = 99
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match="label set brain has no id 99"):
        load_model(tmp_path)


def test_unknown_network_is_named() -> None:
    with pytest.raises(ModelError, match="no network 'slow'; choose one of fast, unet"):
        build_network("slow", {})
