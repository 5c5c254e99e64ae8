"""Lossless compression of tensors in checkpoints.

Weights in training are rounded to 23 bits; a step changes them by about fifty times the rounding error. Each tensor is
split into byte planes: signs and exponents compress well, most mantissas are stored as they are.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from phantomseg.image.files import write_atomically

SPARE_BITS = 9  # low bits of float32 that are zero in weights
QUIET_NAN = 0x7FC00000
MAX_COMPRESSED = 0.95  # of the size, else stored as it is
FORMATS = {str(kind).removeprefix("torch."): kind for kind in (torch.float32, torch.bfloat16, torch.int64)}


@torch.no_grad()
def round_off(values: torch.Tensor) -> None:
    """Round float32 in place to a sign, 8 bits of exponent and 14 of mantissa.

    >>> values = torch.tensor([1.0, 1 + 2**-14, 1 + 2**-16])
    >>> round_off(values)
    >>> (values - 1).tolist() == [0.0, 2**-14, 0.0]
    True
    """
    bits = values.view(torch.int32)
    bits.clamp_(max=QUIET_NAN)  # NaN stays NaN: that of a GPU would overflow to zero
    bits.add_(1 << (SPARE_BITS - 1)).bitwise_and_(-1 << SPARE_BITS)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], near: Mapping[str, str], metadata: Any) -> None:
    """Write tensors and JSON metadata, atomically.

    Args:
        path: a safetensors file.
        tensors: by name; float32, bfloat16 or int64, of any shape.
        near: tensor to the name of a similar one; only the difference of their bits is stored.
        metadata: anything that JSON can hold.
    """
    planes: dict[str, torch.Tensor] = {}
    layout = {}
    for name, tensor in tensors.items():
        other = near.get(name)
        layout[name] = {"format": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "near": other}
        words = _words(tensor)
        for number, plane in enumerate(_planes(words if other is None else _zigzag(words - _words(tensors[other])))):
            packed = zlib.compress(plane.tobytes(), 1)
            kind, content = (
                ("packed", packed) if len(packed) < MAX_COMPRESSED * plane.size else ("plain", plane.tobytes())
            )
            planes[f"{name}/{number}/{kind}"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    content = save(planes, {"layout": json.dumps(layout), "metadata": json.dumps(metadata)})
    write_atomically(path, lambda temporary: Path(temporary).write_bytes(content))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """Tensors by name, and the metadata."""
    found: dict[str, dict[int, np.ndarray]] = {}
    with safe_open(path, "pt") as file:
        header = file.metadata()
        for key in file.keys():  # noqa: SIM118, it is no mapping
            name, number, kind = key.rsplit("/", 2)
            content = file.get_tensor(key).numpy()
            plain = np.frombuffer(zlib.decompress(content.tobytes()), np.uint8) if kind == "packed" else content
            found.setdefault(name, {})[int(number)] = plain
    layout: dict[str, Any] = json.loads(header["layout"])
    words = {name: _joined([found[name][n] for n in sorted(found[name])]) for name in layout}
    result = {}
    for name, is_what in layout.items():
        bits = words[name] if is_what["near"] is None else _unzigzag(words[name]) + words[is_what["near"]]
        kind = FORMATS[is_what["format"]]
        result[name] = torch.from_numpy(bits).view(kind).view(is_what["shape"])
    return result, json.loads(header["metadata"])


def _words(tensor: torch.Tensor) -> np.ndarray:
    """Bits of each value as one integer, in the order of the axes."""
    flat = tensor.detach().cpu().contiguous().flatten()
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return flat.view(whole).numpy()


def _planes(words: np.ndarray) -> list[np.ndarray]:
    rows = words.reshape(-1, 1).view(np.uint8)
    return [np.ascontiguousarray(rows[:, number]) for number in range(rows.shape[1])]


def _joined(planes: list[np.ndarray]) -> np.ndarray:
    rows = np.stack(planes, 1)
    return rows.view(f"<i{rows.shape[1]}")[:, 0].copy()


def _zigzag(words: np.ndarray) -> np.ndarray:
    """Signed integers as unsigned ones of similar size: 0, −1, 1, −2 become 0, 1, 2, 3."""
    return (words << 1) ^ (words >> (8 * words.itemsize - 1))


def _unzigzag(words: np.ndarray) -> np.ndarray:
    unsigned = words.view(f"u{words.itemsize}")
    return ((unsigned >> 1).view(words.dtype)) ^ -(words & 1)
