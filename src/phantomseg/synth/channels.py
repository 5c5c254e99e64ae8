"""Questions to volumes of generation channels, asked with the values of the label tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np
import torch

from phantomseg.labels import label_set


@cache
def channel(value: int) -> int:
    """Channel of a value of the set `generation`.

    >>> channel(0)
    0
    """
    found = int(label_set("generation").index_of_ids(np.array([value]))[0])
    if found < 0:
        raise ValueError(f"the label set 'generation' has no value {value}")
    return found


def is_any(labels: torch.Tensor, values: Iterable[int]) -> torch.Tensor:
    """Where the channels (uint8, any shape) are one of these values, boolean.

    >>> is_any(torch.tensor([channel(2), channel(24)]), (2, 41)).tolist()
    [True, False]
    """
    table = torch.zeros(len(label_set("generation")), dtype=torch.bool, device=labels.device)
    table[[channel(v) for v in values]] = True
    return look_up(labels, table)


def replaced(labels: torch.Tensor, new: Mapping[int, int]) -> torch.Tensor:
    """Channels with some values replaced, same shape.

    >>> replaced(torch.tensor([channel(25)]), {25: 2}).item() == channel(2)
    True
    """
    table = torch.arange(len(label_set("generation")), dtype=labels.dtype, device=labels.device)
    for old, value in new.items():
        table[channel(old)] = channel(value)
    return look_up(labels, table)


def look_up(labels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Entry of a table (N,) for each label, same shape."""
    if labels.device.type == "cpu" and labels.dtype == torch.uint8 and table.itemsize == 1 and labels.numel():
        return _translate(labels, table)
    return table.index_select(0, labels.reshape(-1).int()).view(labels.shape)


def _translate(labels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """The same of single bytes by Python's own loop: twice as fast as by 32-bit indices."""
    entries = bytes(table.view(torch.uint8).tolist()).ljust(256, b"\0")
    found = bytearray(labels.contiguous().numpy()).translate(entries)
    return torch.frombuffer(found, dtype=table.dtype).view(labels.shape)


def every_mm(labels: torch.Tensor, per_mm: int) -> torch.Tensor:
    """One voxel a mm of labels (B, I, J, K) at `per_mm` voxels a mm."""
    return labels[:, ::per_mm, ::per_mm, ::per_mm]


def refined(volume: torch.Tensor, times: int) -> torch.Tensor:
    """Volume (B, I, J, K) with each voxel repeated along every axis."""
    for axis in (1, 2, 3) if times > 1 else ():
        volume = volume.repeat_interleave(times, axis)
    return volume
