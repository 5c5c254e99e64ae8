"""How good the averaged network is on synthetic samples it never trained on."""

from __future__ import annotations

import math

import torch
from torch import nn

from phantomseg.evaluation.dataset import Case
from phantomseg.evaluation.evaluate import structure_dice
from phantomseg.inference.segment import segment
from phantomseg.labels import label_set
from phantomseg.network.model import Model
from phantomseg.network.volume import Block
from phantomseg.runtime import number_format
from phantomseg.synth.generate import generate
from phantomseg.synth.recipe import Recipe
from phantomseg.synth.templates import Templates

HELD_OUT_SEED = 2**31  # the command line takes smaller ones


def held_out_dice(network: nn.Module, recipe: Recipe, templates: Templates, count: int = 8) -> dict[str, float]:
    """Mean hard Dice over classes present (background left out) and over `count` held-out samples."""
    dices: list[float] = []
    for index in range(count):
        batch = generate(recipe, templates, HELD_OUT_SEED, range(index, index + 1))
        predicted = predict_channels(network, batch.image)
        classes = int(batch.target.max()) + 1
        if classes > 1:  # a crop may show background alone
            dices.append(mean_dice(predicted, batch.target.long(), classes))
    return {"dice_held_out": round(sum(dices) / len(dices), 4)} if dices else {}


@torch.inference_mode()
def predict_channels(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Most probable channel of each voxel, (B, I, J, K), half the volume at a time."""
    device = image.device
    image = image.contiguous(memory_format=torch.channels_last_3d)
    _, _, i, j, k = image.shape
    middle = i // 4 * 2
    with torch.autocast(device.type, torch.bfloat16, enabled=number_format(device) == torch.bfloat16):
        encoded = network.encode(image)  # type: ignore[operator]
        blocks: list[Block] = [(slice(low, high), slice(0, j), slice(0, k)) for low, high in ((0, middle), (middle, i))]
        halves = [network.decode(encoded, image, block).argmax(1) for block in blocks]  # type: ignore[operator]
    return torch.cat(halves, dim=1)


def mean_dice(predicted: torch.Tensor, target: torch.Tensor, classes: int) -> float:
    """Mean hard Dice of classes 1 to `classes` − 1 that the target holds.

    >>> mean_dice(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 0]), 2)  # 2 · 1 / (2 + 1)
    0.6667
    """
    predicted, target = predicted.flatten(), target.flatten()
    size = torch.bincount(predicted, minlength=classes)[:classes] + torch.bincount(target, minlength=classes)
    overlap = torch.bincount(target[predicted == target], minlength=classes)
    present = torch.bincount(target, minlength=classes) > 0
    present[0] = False
    return round(float((2 * overlap[present] / size[present]).mean()), 4)


def real_scan_dice(network: nn.Module, labels: str, cases: list[Case]) -> dict[str, float]:
    """Mean Dice over all structures and labelled scans, left and right merged.

    Raises:
        LabelError: the network's set does not merge into `freesurfer`.
    """
    model = Model(network, label_set(labels))
    scores = []
    for case in cases:
        scan, reference = case.read()
        found = segment(scan, model, "freesurfer").image
        dice = structure_dice(found.voxels, reference.voxels, label_set("evaluation"), merged=True)
        scores += [value for value in dice.values() if not math.isnan(value)]
    return {"dice_scans": round(sum(scores) / len(scores), 4)}
