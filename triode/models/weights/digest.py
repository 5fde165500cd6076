"""Digests of a model: which streams it can decode, and to what."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from triode.entropy.exact.state import entropy_state
from triode.entropy.tables import PRECISION, CdfTables, Int32Array, IntArray
from triode.models.base import AudioModel, GopFormat, ImageModel, VideoModel


def tensor_digest(tensors: Mapping[str, Tensor], salt: str) -> bytes:
    """Hash named tensors by name, type, shape and little-endian bytes.

    Args:
        tensors: Tensors by name; their order does not matter.
        salt: Text hashed first: architecture and configuration.

    Returns:
        SHA-256, 32 bytes.
    """
    digest = hashlib.sha256(salt.encode())
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().contiguous().numpy()
        digest.update(f"\n{name} {array.dtype.str.lstrip('<>|=')} {array.shape}\n".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.digest()


def entropy_digest(model: nn.Module, salt: str) -> bytes:
    """Hash the integer state of a model: streams of another digest cannot be decoded with it."""
    return tensor_digest(entropy_state(model), salt)


def synthesis_digest(model: nn.Module, salt: str) -> bytes:
    """Hash the rest of a model: streams of another digest decode to other pixels or samples."""
    integers = set(entropy_state(model))
    rest = {k: v for k, v in model.state_dict().items() if k not in integers}
    return tensor_digest({k: v.half() if v.is_floating_point() else v for k, v in rest.items()}, salt)


class _PatternReader:
    """Gives symbols by a fixed rule (a linear congruential generator) in place of a stream."""

    def __init__(self) -> None:
        self._state = 1

    def read(self, index: IntArray, tables: CdfTables) -> Int32Array:
        out = np.empty(len(index), dtype=np.int32)
        for i in range(len(out)):
            self._state = (self._state * 1103515245 + 12345) & 0x7FFFFFFF
            out[i] = ((self._state >> 16) % 7 - 3) * (int(index[i]) + 8) // 8
        return out


class _TablePatternReader:
    """The same rule for symbols without escapes: each is drawn by the masses of its table."""

    def __init__(self) -> None:
        self._state = 1

    def read(self, index: IntArray, tables: CdfTables) -> Int32Array:
        out = np.empty(len(index), dtype=np.int32)
        for i in range(len(out)):
            self._state = (self._state * 1103515245 + 12345) & 0x7FFFFFFF
            table = int(index[i])
            masses = tables.table(table)[:-1]
            # Entries that no code stands for have the smallest mass, and are as good as never met.
            place = np.searchsorted(np.cumsum(masses), self._state >> (31 - PRECISION), side="right")
            out[i] = min(int(place), len(masses) - 1) + tables.offsets[table]
        return out


def known_answer(model: ImageModel | AudioModel | VideoModel) -> int:
    """Run the whole entropy path on a fixed pattern of symbols.

    Args:
        model: Exported model.

    Returns:
        CRC-32 of the quantised latents at three rate points; the same number on every machine that computes exactly.
    """
    crc = 0
    for point in (0, 31, 63):
        q = torch.tensor([point])
        if isinstance(model, VideoModel):
            crc = _group_answer(model, point, crc)
            continue
        if isinstance(model, AudioModel):
            reader = _TablePatternReader() if model.bounded else _PatternReader()
            y_hat = model.decode(3 * model.multiple, q, reader)
        else:
            y_hat = model.decode((3, 5), q, _PatternReader())
        crc = zlib.crc32(y_hat.contiguous().numpy().astype("<f4").tobytes(), crc)
    return crc


def _group_answer(model: VideoModel, point: int, crc: int) -> int:
    """Run the entropy path of a short group of pictures; return the CRC-32 of what it makes, going on from `crc`."""
    reader = _PatternReader()
    state = model.start(GopFormat(3 * model.multiple, 5 * model.multiple))
    for index in range(3):
        latent = model.decode(model.step(index, point), state, reader)
        for tensor in (*latent.values, *latent.integers):
            crc = zlib.crc32(tensor.contiguous().numpy().astype("<f4").tobytes(), crc)
        state = model.skip(latent, state)
    return crc
