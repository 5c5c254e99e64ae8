"""Volumes as pictures that a browser unpacks: axial slices tiled on one sheet."""

from __future__ import annotations

import base64
import io
import math
import zlib
from typing import Any

import numpy as np
from PIL import Image as Picture

from phantomseg.report.shown import Shown

BLOCK = 8  # of JPEG: tiles that fill whole blocks do not run into each other
QUALITY = 80


def sprites(volume: Shown) -> dict[str, Any]:
    """Both volumes as sheets of tiles, with what it takes to read them.

    Slice k is tile k, row by row; in a tile, rows run to anterior and columns to the right. `adler32` is the checksum
    of the channels, first axis fastest, with which a browser finds out whether it read them exactly.
    """
    width, height, count = volume.grey.shape
    tile = (-(-width // BLOCK) * BLOCK, -(-height // BLOCK) * BLOCK)
    columns = max(1, round(math.sqrt(count * tile[1] / tile[0])))
    return {
        "shape": [width, height, count],
        "tile": list(tile),
        "columns": columns,
        "grey": picture_uri(_sheet(volume.grey, tile, columns, "edge"), quality=QUALITY),
        "channels": picture_uri(_sheet(volume.channels, tile, columns, "constant")),
        "adler32": zlib.adler32(np.ascontiguousarray(volume.channels.T).tobytes()),
    }


def picture_uri(pixels: np.ndarray, quality: int | None = None) -> str:
    """Pixels (H, W) or (H, W, 3) of 8 bits as a data URI: JPEG of that quality, or PNG, which is exact.

    >>> picture_uri(np.zeros((1, 1), np.uint8))[:30]
    'data:image/png;base64,iVBORw0K'
    """
    file = io.BytesIO()
    if quality is None:
        Picture.fromarray(pixels).save(file, "PNG", compress_level=9)
    else:  # colours are kept at full resolution, as outlines are one pixel wide
        Picture.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
    kind = "png" if quality is None else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _sheet(volume: np.ndarray, tile: tuple[int, int], columns: int, border: Any) -> np.ndarray:
    """Slices (I, J) of a volume (I, J, K) as tiles of one picture, `columns` a row."""
    width, height, count = volume.shape
    rows = -(-count // columns)
    tiles = np.pad(volume.T, [(0, 0), (0, tile[1] - height), (0, tile[0] - width)], mode=border)
    tiles = np.pad(tiles, [(0, rows * columns - count), (0, 0), (0, 0)])
    grid = tiles.reshape(rows, columns, tile[1], tile[0]).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grid.reshape(rows * tile[1], columns * tile[0]))
