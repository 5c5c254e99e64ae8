"""The network run by OpenVINO, which is quicker on x86 processors and answers as the torch module does."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

from phantomseg import runtime
from phantomseg.errors import ModelError, PhantomSegError
from phantomseg.network.fast import FOLD, FastNet
from phantomseg.network.model import Model
from phantomseg.network.norms import Moments, Norms
from phantomseg.network.openvino_graph import (
    Given,
    Measured,
    Shape,
    fast_decoder,
    fast_encoder,
    unet_encoder,
)
from phantomseg.network.openvino_import import openvino
from phantomseg.network.signal_stack import signal_stack_kept
from phantomseg.network.unet import UNet
from phantomseg.network.volume import Block, whole

BACKENDS = ("torch", "openvino")
MOST_COMPILED = 4  # for a scan in tiles: the backbone for its norms, the backbone for tiles, two shapes of block
CPU = torch.device("cpu")


def choose_backend(name: str, device: torch.device) -> str:
    """What runs the network, "torch" or "openvino"; "auto" takes torch, whatever is installed beside it.

    Raises:
        PhantomSegError: no such backend, or it cannot be used here.

    >>> choose_backend("auto", torch.device("cuda"))
    'torch'
    """
    if name == "auto":
        return "torch"
    if name not in BACKENDS:
        raise PhantomSegError(f"there is no backend {name!r}; choose auto or one of {', '.join(BACKENDS)}")
    if name == "openvino" and device.type != "cpu":
        raise PhantomSegError(
            f"backend 'openvino' computes on the CPU, and the device is {device.type}; "
            "choose device cpu or backend torch"
        )
    if name == "openvino":
        openvino()
    return name


def to_openvino(model: Model, threads: int | None = None) -> Model:
    """The same model, its network run by OpenVINO on the CPU.

    Args:
        model: with either network; it is not changed, and the weights are shared.
        threads: by default as many as torch uses at the time.

    Raises:
        PhantomSegError: OpenVINO is not installed.
        ModelError: there is no graph for this kind of network.
    """
    openvino()
    if isinstance(model.network, FastNet):
        return dataclasses.replace(model, network=OpenVinoFastNet(model.network, threads))
    if isinstance(model.network, UNet):
        return dataclasses.replace(model, network=OpenVinoUNet(model.network, threads))
    raise ModelError(f"OpenVINO does not run {type(model.network).__name__}; choose backend torch")


class OpenVinoNet(nn.Module):
    """What both networks share: graphs compiled for one shape each, the last few of them kept."""

    bytes_a_voxel: int  # of the image, that encoding it takes in use, in bfloat16

    def __init__(self, network: Any, threads: int | None):
        super().__init__()
        self.network = network
        self.threads = threads
        self._compiled: OrderedDict[Hashable, Any] = OrderedDict()

    @property
    def multiple(self) -> int:
        """What every axis of the image must be a multiple of."""
        multiple: int = self.network.multiple
        return multiple

    @property
    def backend(self) -> str:
        """What computes, and its version."""
        return f"openvino {version('openvino')}"

    def compiled(self, kind: str, shapes: Hashable, build: Callable[[torch.dtype], Any]) -> Any:
        """What `build` makes for a number format, ready to run; made once for a kind, shapes, threads and format."""
        threads = self.threads or torch.get_num_threads()
        dtype = runtime.number_format(CPU)
        key = (kind, shapes, threads, dtype)
        if key not in self._compiled:
            while len(self._compiled) >= MOST_COMPILED:
                self._compiled.popitem(last=False)
            self._compiled[key] = _compile(build(dtype), threads, dtype)
        self._compiled.move_to_end(key)
        return self._compiled[key]

    @staticmethod
    def _encoded(graph: Any, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Results of one run, the first with its channels in their place; the graph lets go of its memory."""
        first, *others = _run(graph, inputs)
        graph.release_memory()
        return [first.movedim(-1, 1), *others]


class OpenVinoFastNet(OpenVinoNet):
    """`FastNet` as inference asks it."""

    bytes_a_voxel = 80

    def encode(self, image: torch.Tensor, norms: Norms | None = None) -> torch.Tensor:
        """The backbone's features (1, features, I/2, J/2, K/2) of the image (1, 1, I, J, K); see `FastNet.encode`."""
        shape = _shape(image)
        if norms is not None and norms.over is None:
            given = [
                _channels(values) for found in norms.kept[: self._norms] for values in (found.mean, found.variance)
            ]
            backbone = self.compiled("kept", shape, lambda dtype: fast_encoder(self.network, shape, Given(), dtype))
            return self._encoded(backbone, [image, *given])[0]
        over = whole(image) if norms is None or norms.over is None else norms.over
        i, j, k = (s.stop - s.start for s in over)
        backbone = self.compiled(
            "over", (shape, i, j, k), lambda dtype: fast_encoder(self.network, shape, Measured((i, j, k)), dtype)
        )
        encoded, *found = self._encoded(backbone, [image, torch.tensor([s.start for s in over])])
        if norms is not None:
            flat = [values.float().flatten() for values in found]
            norms.kept += map(Moments, flat[::2], flat[1::2])
        return encoded

    def decode(self, encoded: torch.Tensor, image: torch.Tensor, block: Block) -> torch.Tensor:
        """Logits (1, C, …) of a block of voxels, each end even; see `FastNet.decode`.

        Windows at the border are as large as those inside, so that one graph does for all.
        """
        window = [_window(s, size) for s, size in zip(block, image.shape[2:], strict=True)]
        i, j, k = window
        half_i, half_j, half_k = (slice(s.start // FOLD, s.stop // FOLD) for s in window)
        near = image[:, :, i, j, k]
        shape = _shape(near)
        graph = self.compiled("decode", shape, lambda dtype: fast_decoder(self.network, shape, dtype))
        (logits,) = _run(graph, [encoded[:, :, half_i, half_j, half_k].movedim(1, -1), near])
        in_i, in_j, in_k = (slice(s.start - w.start, s.stop - w.start) for s, w in zip(block, window, strict=True))
        return logits[:, in_i, in_j, in_k].movedim(-1, 1)

    @property
    def _norms(self) -> int:
        return sum(isinstance(module, nn.GroupNorm) for module in self.network.modules())


class OpenVinoUNet(OpenVinoNet):
    """`UNet` as inference asks it."""

    bytes_a_voxel = 600

    def encode(self, image: torch.Tensor, norms: Norms | None = None) -> torch.Tensor:
        """Logits (1, C, I, J, K) of the whole image (1, 1, I, J, K), whatever `norms` says."""
        shape = _shape(image)
        graph = self.compiled("unet", shape, lambda dtype: unet_encoder(self.network, shape, dtype))
        return self._encoded(graph, [image])[0]

    def decode(self, encoded: torch.Tensor, image: torch.Tensor, block: Block) -> torch.Tensor:
        """The block of the logits."""
        return encoded[(..., *block)]


def _shape(image: torch.Tensor) -> Shape:
    batch, channels, i, j, k = image.shape
    if (batch, channels) != (1, 1):
        raise ModelError(f"OpenVINO was given {batch} images of {channels} channels, wanted one of one")
    return i, j, k


def _channels(values: torch.Tensor) -> torch.Tensor:
    return values.reshape(1, -1, 1, 1, 1)


def _window(part: slice, size: int) -> slice:
    """A part of an axis with a rim of `FOLD` voxels on either side, of one length wherever the part lies."""
    length = min(part.stop - part.start + 2 * FOLD, size)
    low = min(max(part.start - FOLD, 0), size - length)
    return slice(low, low + length)


def _compile(graph: Any, threads: int, dtype: torch.dtype) -> Any:
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # others may be at work, or torch in this very process
    }
    with signal_stack_kept():
        return openvino().Core().compile_model(graph, "CPU", options)


def _run(compiled: Any, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Results of one run, each in memory of its own."""
    request = compiled.create_infer_request()
    outputs = [torch.empty(tuple(o.shape), dtype=_dtype(o)) for o in compiled.outputs]
    kept = [x.contiguous().to(_dtype(port)) for x, port in zip(inputs, compiled.inputs, strict=True)]
    for number, x in enumerate(kept):
        request.set_input_tensor(number, _shared(x))
    for number, y in enumerate(outputs):
        request.set_output_tensor(number, _shared(y))
    request.infer()
    return outputs


def _dtype(port: Any) -> torch.dtype:
    names = {"bf16": torch.bfloat16, "f32": torch.float32, "i64": torch.int64}
    return names[port.element_type.get_type_name()]


def _shared(x: torch.Tensor) -> Any:
    """The same memory for OpenVINO."""
    if x.dtype == torch.bfloat16:  # which numpy does not know: any type of two bytes will do
        return openvino().Tensor(x.view(torch.int16).numpy().view(np.float16), x.shape, openvino().Type.bf16)
    return openvino().Tensor(x.numpy(), shared_memory=True)
