"""Both networks as graphs that OpenVINO compiles.

They are written down once more, in OpenVINO's own layers: a trace of the torch code takes a second or more, and layers
that OpenVINO knows (repeated voxels, folded voxels) reach it as reshapes, which it runs slowly. Tests compare both.

Activations are (1, C, i, j, k) inside, and (1, i, j, k, C) where they enter and leave, which is how they lie in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from phantomseg.network.fast import FOLD, SLOPE, FastNet, Unit
from phantomseg.network.openvino_import import openvino
from phantomseg.network.unet import Pair, UNet

Node = Any
Shape = tuple[int, int, int]  # voxels along each axis


class Statistics(Protocol):
    """Where mean and variance of each channel come from, and what of that enters and leaves the graph."""

    inputs: list[Node]
    outputs: list[Node]

    def __call__(self, y: Node, channels: int, shrunk: int) -> tuple[Node, Node]:
        """Mean and variance, (1, C, 1, 1, 1), for y, whose voxels are `shrunk` times as large as the image's."""


class Measured:
    """Mean and variance over a block of `lengths` voxels whose first corner is an input; they leave the graph."""

    def __init__(self, lengths: Shape):
        self.lengths = lengths
        self.corner = _op().parameter([3], np.int64)
        self.inputs = [self.corner]
        self.outputs: list[Node] = []

    def __call__(self, y: Node, channels: int, shrunk: int) -> tuple[Node, Node]:
        """See `Statistics`."""
        low = _op().divide(self.corner, _integers([shrunk] * 3))
        high = _op().add(low, _integers([length // shrunk for length in self.lengths]))
        part = _op().slice(y, low, high, _integers([1, 1, 1]), _space())
        mean = _op().reduce_mean(part, _space(), True)
        away = _op().subtract(part, mean)
        variance = _op().reduce_mean(_op().multiply(away, away), _space(), True)
        self.outputs += [mean, variance]
        return mean, variance


class Given:
    """Mean and variance enter the graph, two inputs a norm."""

    def __init__(self) -> None:
        self.inputs: list[Node] = []
        self.outputs: list[Node] = []

    def __call__(self, y: Node, channels: int, shrunk: int) -> tuple[Node, Node]:
        """See `Statistics`."""
        mean, variance = (_op().parameter([1, channels, 1, 1, 1], np.float32) for _ in range(2))
        self.inputs += [mean, variance]
        return mean, variance


def fast_encoder(network: FastNet, shape: Shape, statistics: Statistics, ends: torch.dtype) -> Any:
    """`FastNet.encode` of an image of `shape`; features, and what the statistics say, leave it as `ends`."""
    image = _op().parameter([1, 1, *shape], np.float32)
    x, skips = _op().space_to_depth(image, "blocks_first", FOLD), []
    for level, units in enumerate(network.down):
        for unit in units:  # type: ignore[attr-defined]
            x = _unit(unit, x, statistics, FOLD * 2**level)
        skips.append(x)
    for level in reversed(range(len(network.up))):
        coarse = _double(_convolution(network.narrow[level], x))
        x = _unit(network.up[level], _op().add(skips[level], coarse), statistics, FOLD * 2**level)
    outputs = [_leaving(x, ends), *(_as(y, ends) for y in statistics.outputs)]
    return openvino().Model(outputs, [image, *statistics.inputs])


def fast_decoder(network: FastNet, shape: Shape, ends: torch.dtype) -> Any:
    """`FastNet.decode` of features, of half of `shape`, and of an image of `shape`; both borders are the volume's."""
    width = network.config.features[0]
    backbone, entering = _entering((*(length // FOLD for length in shape), width), ends)
    image = _op().parameter([1, 1, *shape], np.float32)
    features = _op().depth_to_space(_convolution(network.detail, backbone), "blocks_first", FOLD)
    x = _leaky(_convolution(network.head, _op().concat([features, image], 1)))
    for refine in network.refine:
        x = _op().add(x, _leaky(_convolution(refine, x)))
    logits = _op().add(_convolution(network.classify, x), _double(_convolution(network.coarse, backbone)))
    return openvino().Model([_leaving(logits, ends)], [entering, image])


def unet_encoder(network: UNet, shape: Shape, ends: torch.dtype) -> Any:
    """`UNet.encode`: the logits of all of an image of `shape`."""
    image = _op().parameter([1, 1, *shape], np.float32)
    x, skips = image, []
    for level, (pair, norm) in enumerate(zip(network.down, network.down_norm, strict=True)):
        x = _pair(pair, x if level == 0 else _halved(x))
        skips.append(x)
        x = _fixed_norm(norm, x)
    for pair, norm, skip in zip(reversed(network.up), reversed(network.up_norm), reversed(skips[:-1]), strict=True):
        x = _fixed_norm(norm, _pair(pair, _op().concat([skip, _double(x)], 1)))
    return openvino().Model([_leaving(_convolution(network.likelihood, x), ends)], [image])


def _unit(unit: Any, x: Node, statistics: Statistics, shrunk: int) -> Node:
    assert isinstance(unit, Unit)
    y, norm = _convolution(unit.conv, x), unit.norm
    mean, variance = statistics(y, norm.num_channels, shrunk)
    scale = _op().divide(_of_channels(norm.weight), _op().sqrt(_op().add(variance, _numbers(norm.eps))))
    shift = _op().subtract(_of_channels(norm.bias), _op().multiply(mean, scale))
    y = _leaky(_op().add(_op().multiply(y, scale), shift))
    return _op().add(x, y) if unit.residual else y


def _pair(pair: Any, x: Node) -> Node:
    assert isinstance(pair, Pair)
    return _op().elu(_convolution(pair.second, _op().elu(_convolution(pair.first, x), 1.0)), 1.0)


def _fixed_norm(norm: Any, x: Node) -> Node:
    assert isinstance(norm, nn.BatchNorm3d) and norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return _op().add(_op().multiply(x, _of_channels(scale)), _of_channels(norm.bias - norm.running_mean * scale))


def _convolution(conv: Any, x: Node) -> Node:
    stride, padding = list(conv.stride), list(conv.padding)
    y = _op().convolution(x, _numbers(conv.weight), stride, padding, padding, [1, 1, 1])
    return y if conv.bias is None else _op().add(y, _of_channels(conv.bias))


def _leaky(x: Node) -> Node:
    return _op().prelu(x, _numbers([SLOPE]))


def _halved(x: Node) -> Node:
    return _op().max_pool(x, [2] * 3, [1] * 3, [0] * 3, [0] * 3, [2] * 3).output(0)


def _double(x: Node) -> Node:
    """Each voxel repeated 2 × 2 × 2 times."""
    places = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return _op().interpolate(x, _numbers([2, 2, 2]), "nearest", "scales", axes=_space(), **places)


def _entering(shape: Sequence[int], ends: torch.dtype) -> tuple[Node, Node]:
    """An input (1, i, j, k, C), as (1, C, i, j, k) and as it is."""
    x = _op().parameter([1, *shape], getattr(openvino().Type, _name(ends)))
    return _op().transpose(_as(x, torch.float32), _integers([0, 4, 1, 2, 3])), x


def _leaving(x: Node, ends: torch.dtype) -> Node:
    return _as(_op().transpose(x, _integers([0, 2, 3, 4, 1])), ends)


def _as(x: Node, dtype: torch.dtype) -> Node:
    """What leaves as bfloat16 is computed in it; else all after the last convolution would be float32, and slow."""
    return x if x.get_element_type().get_type_name() == _name(dtype) else _op().convert(x, _name(dtype))


def _name(dtype: torch.dtype) -> str:
    return {torch.bfloat16: "bf16", torch.float32: "f32"}[dtype]


def _of_channels(values: torch.Tensor) -> Node:
    return _numbers(values.reshape(1, -1, 1, 1, 1))


def _numbers(values: Any) -> Node:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    return _op().constant(np.array(array, dtype=np.float32))


def _integers(values: Sequence[int]) -> Node:
    return _op().constant(np.array(values, dtype=np.int64))


def _space() -> Node:
    """The axes i, j, k."""
    return _integers([2, 3, 4])


def _op() -> Any:
    return openvino().opset13
