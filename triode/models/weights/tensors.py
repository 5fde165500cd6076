"""How a weights file holds tensors: large ones in 12 bits an element, other floats in float16, integers as they are.

Each row (output channel) of a packed tensor has a scale, its largest magnitude over 2047, with 13 significant bits, so
that products with the 12-bit integers are exact in float32 and what is unpacked packs to the same bytes again. Element
2i of the rows one after another is in the low 12 bits of bytes 3i to 3i + 2 (little-endian), element 2i + 1 in the high
ones, in two's complement; an odd number is padded with a zero.

A file may leave out tensors that another one, its base, has bit for bit under the same name after a prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Base", "left_out", "pack", "rounded", "unpack"]

_LIMIT = 2047
_LEAST = 1024
_BITS, _SCALE = ".q12", ".q12_scale"


@dataclass(frozen=True, slots=True)
class Base:
    """The file that has the tensors that another one leaves out.

    Attributes:
        name: Name of its weights.
        prefix: What stands before the names of its tensors, such as ``image.`` where it is a part of the model.
    """

    name: str
    prefix: str = ""


def _packs(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim >= 2 and tensor.numel() >= _LEAST


def _integers(tensor: Tensor) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Return a tensor as integers (rows, columns) and the scale of each row."""
    rows = tensor.detach().cpu().float().reshape(len(tensor), -1).numpy()
    mantissa, exponent = np.frexp(np.abs(rows).max(1).astype(np.float64) / _LIMIT)
    scale = np.ldexp(np.rint(mantissa * 2**13), exponent - 13)
    safe = np.where(scale > 0, scale, 1.0)
    integers = np.rint(rows / safe[:, None]).clip(-_LIMIT, _LIMIT).astype(np.int16)
    return integers, scale.astype(np.float32)


def rounded(tensor: Tensor) -> Tensor:
    """Return a tensor as a file will give it back: floats in float32, integers unchanged.

    Args:
        tensor: Any; floats must be finite in float16.
    """
    if not tensor.is_floating_point():
        return tensor
    if not _packs(tensor):
        return tensor.half().float()
    integers, scale = _integers(tensor)
    return torch.from_numpy(integers * scale[:, None]).reshape(tensor.shape)


def pack(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Return the tensors of a file, and the shapes of those that are packed, for its metadata."""
    tensors: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in state.items():
        if not _packs(tensor):
            tensors[name] = (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
            continue
        integers, scale = _integers(tensor)
        flat = np.zeros(-(-integers.size // 2) * 2, np.uint32)
        flat[: integers.size] = integers.astype(np.int32).reshape(-1).view(np.uint32) & 0xFFF
        pairs = (flat[0::2] | flat[1::2] << 12).astype("<u4")
        tensors[name + _BITS] = torch.from_numpy(pairs.view(np.uint8).reshape(-1, 4)[:, :3].reshape(-1).copy())
        tensors[name + _SCALE] = torch.from_numpy(scale)
        shapes[name] = list(tensor.shape)
    return tensors, shapes


def unpack(tensors: Mapping[str, Tensor], shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """Return what :func:`pack` was given, as :func:`rounded` would.

    Raises:
        ValueError: If a packed tensor has not the elements that its shape asks for.
        KeyError: If a packed tensor is missing.
    """
    used = {name + ending for name in shapes for ending in (_BITS, _SCALE)}
    state = {k: t.float() if t.is_floating_point() else t for k, t in tensors.items() if k not in used}
    for name, shape in shapes.items():
        if name in state:
            raise ValueError(f"{name} is there twice")
        bits, scale = tensors[name + _BITS], tensors[name + _SCALE]
        count = int(np.prod(shape, dtype=np.int64))
        sizes = (bits.dtype, bits.shape, scale.dtype, scale.shape)
        if sizes != (torch.uint8, (-(-count // 2) * 3,), torch.float32, (shape[0],)):
            raise ValueError(f"{name} is packed in {tuple(bits.shape)} bytes and {tuple(scale.shape)} scales")
        pairs = np.zeros((len(bits) // 3, 4), np.uint8)
        pairs[:, :3] = bits.numpy().reshape(-1, 3)
        both = pairs.view("<u4").reshape(-1)
        # Shifted up and down again, the highest of the 12 bits becomes the sign.
        integers = np.stack([both << 20, both >> 12 << 20], 1).view(np.int32).reshape(-1) >> 20
        if integers[count:].any():
            raise ValueError(f"{name} is padded with something other than 0")
        values = integers[:count].reshape(shape[0], -1).astype(np.float32) * scale.numpy()[:, None]
        state[name] = torch.from_numpy(values).reshape(shape)
    return state


def left_out(state: Mapping[str, Tensor], base: Mapping[str, Tensor], prefix: str) -> set[str]:
    """Return the names of tensors that are those of a base bit for bit; both are as :func:`unpack` gives them."""
    found = set()
    for name, tensor in state.items():
        other = base.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if other is not None and other.dtype == tensor.dtype and torch.equal(other, tensor):
            found.add(name)
    return found
