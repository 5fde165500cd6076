"""What anchors share: checks of pixels, versions of packages, boxes of files, threads of torch."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triode.errors import BitstreamError

__all__ = ["Pixels", "box_payload", "check_pixels", "container_parts", "package_version", "torch_threads"]

Pixels = NDArray[np.uint8]
"""(H, W, 3), sRGB."""


def check_pixels(item: Any) -> Pixels:
    """Return an item that is pixels, contiguous.

    Args:
        item: (H, W, 3) uint8 with at least one pixel.

    Raises:
        ValueError: If it is anything else.
    """
    if not isinstance(item, np.ndarray) or item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3:
        found = f"{item.shape} {item.dtype}" if isinstance(item, np.ndarray) else type(item).__name__
        raise ValueError(f"An image must be an array (H, W, 3) of uint8, but got {found}")
    if item.size == 0:
        raise ValueError(f"An image must have at least one pixel, but got {item.shape}")
    return np.ascontiguousarray(item)


def package_version(name: str) -> str:
    """Return the version of an installed distribution, ``unknown`` where its metadata are missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def box_payload(data: bytes, kind: bytes) -> int:
    """Add up the contents of the top-level boxes of a type in an ISO base media file (ISO/IEC 14496-12, 4.2).

    JPEG 2000 files (ISO/IEC 15444-1, annex I) have the same boxes.

    Args:
        data: The file.
        kind: Type of the boxes, four bytes, such as ``b"mdat"``.

    Returns:
        Bytes, box headers excluded.

    Raises:
        BitstreamError: If the boxes do not fill the file.
    """
    at, total = 0, 0
    while at < len(data):
        size, header = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < header or at + size > len(data):
            raise BitstreamError(f"A box of {size} bytes at byte {at} does not fit a file of {len(data)} bytes")
        if data[at + 4 : at + 8] == kind:
            total += size - header
        at += size
    return total


def container_parts(size: int, payload: int) -> dict[str, int]:
    """Return the parts of a file of which only its container is told apart: ``header`` and ``payload``."""
    return {"header": size - payload, "payload": payload}


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with a number of threads while the block runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
