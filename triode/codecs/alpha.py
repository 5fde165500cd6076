"""Lossless alpha planes: a byte-wise filter and deflate, as in PNG.

The first byte names the filter of all rows (0 none, 1 left, 2 up); what follows is a zlib stream of the filtered rows.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from triode.errors import BitstreamError, UnsupportedError


def encode_alpha(plane: NDArray[np.uint8]) -> bytes:
    """Encode an alpha plane.

    Args:
        plane: (H, W) uint8.

    Returns:
        The filter byte and the deflated rows, by the filter that comes out smallest.
    """
    plane = np.ascontiguousarray(plane)
    left, up = plane.copy(), plane.copy()
    left[:, 1:] -= plane[:, :-1]
    up[1:] -= plane[:-1]
    options = (bytes([i]) + zlib.compress(rows.tobytes(), 9) for i, rows in enumerate((plane, left, up)))
    return min(options, key=len)


def decode_alpha(data: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """Decode an alpha plane.

    Args:
        data: What :func:`encode_alpha` gave.
        width: Pixels.
        height: Pixels.

    Returns:
        (H, W) uint8.

    Raises:
        UnsupportedError: If the filter is unknown.
        BitstreamError: If the rows are damaged or do not fill the plane exactly.
    """
    if not data:
        raise BitstreamError("The alpha plane is empty")
    if data[0] > 2:
        raise UnsupportedError(f"Unknown alpha filter {data[0]}; known are 0, 1 and 2")
    inflate = zlib.decompressobj()
    try:
        rows = inflate.decompress(data[1:], width * height)
        # One more byte would come out of a plane that is too long.
        surplus = inflate.decompress(inflate.unconsumed_tail, 1) if not inflate.eof else b""
    except zlib.error as error:
        raise BitstreamError(f"The alpha plane is damaged: {error}") from error
    if len(rows) != width * height or surplus or not inflate.eof or inflate.unused_data:
        raise BitstreamError(f"The alpha plane does not hold exactly {width} x {height} samples")
    plane = np.frombuffer(rows, dtype=np.uint8).reshape(height, width)
    if data[0] == 0:
        return plane
    # uint8 sums wrap around, which undoes the wrapping differences.
    return np.cumsum(plane, axis=2 - data[0], dtype=np.uint8)
