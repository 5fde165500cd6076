"""A second decoder of the entropy path of `image-light`, in Python integers and NumPy int64.

Written from the specification in docs/entropy.md. It shares no code with the library and uses neither torch nor
constriction, so that a mistake would have to be made twice to go unseen. It is also a proof that a third party can
decode the format without either.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

FRACTION = 10
ACTIVATION_MAX = 2**23 - 1
NARROW_MAX = 2**11 - 1
SYMBOL_MAX = 2**23 - 1
PRECISION = 24
SLOPE = 2**16 // 8
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))
HYPER_STRIDE = 4
SCALES = 64


class CorruptError(ValueError):
    """The payload decodes to no symbols."""


class Config(Protocol):
    """What of a model's configuration the decoder checks the state against."""

    latent: int
    hyper: int
    narrow: bool
    restored: bool


@dataclass(frozen=True, slots=True)
class DecodedUnit:
    """What the payload of one unit holds.

    Attributes:
        z: (Z, ceil(h / 4), ceil(w / 4)) int64 symbols of the hyper-latent.
        y_hat: (M, h, w) int64 latent in Q13.10.
        crc: CRC-32 of all coded symbols, int32 little-endian, in coding order.
        coefficients: (30,) int64 of the restoration; None where the unit or the model has none.
    """

    z: Ints
    y_hat: Ints
    crc: int
    coefficients: Ints | None = None


class RangeDecoder:
    """Range decoder with 64 bits of state, 32-bit words and 24-bit probabilities, on unbounded integers."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.width = 2**64 - 1
        self.offset = self.word() << 32 | self.word()  # Distance of the coded point from the interval's lower end.

    def word(self) -> int:
        piece = self.data[self.position : self.position + 4]
        self.position += 4
        return int.from_bytes(piece.ljust(4, b"\0"), "big")

    def decode(self, bounds: Sequence[int], count: int) -> list[int]:
        """Decode entries of a table given its cumulative masses, from 0 to 2**24."""
        width, offset, out = self.width, self.offset, []
        for _ in range(count):
            scale = width >> PRECISION
            entry = bisect_right(bounds, offset // scale) - 1
            if entry >= len(bounds) - 1:
                raise CorruptError("the point lies outside of all intervals")
            low = bounds[entry]
            offset -= scale * low
            width = scale * (bounds[entry + 1] - low)
            if width < 2**32:
                width <<= 32
                offset = offset << 32 | self.word()
            out.append(entry)
        self.width, self.offset = width, offset
        return out

    def uniform(self, bits: int, count: int) -> Ints:
        """Decode integers below 2**bits that are all equally likely."""
        bounds = range(0, 2**PRECISION + 1, 2 ** (PRECISION - bits))
        return np.array(self.decode(bounds, count), dtype=np.int64)


class Tables:
    """Integer probability tables, the escape last in each."""

    def __init__(self, masses: NDArray[Any], sizes: NDArray[Any], offsets: NDArray[Any]) -> None:
        self.offsets = [int(o) for o in offsets]
        self.bounds = []
        start = 0
        for size in (int(s) for s in sizes):
            self.bounds.append([0, *np.cumsum(masses[start : start + size], dtype=np.int64).tolist()])
            assert self.bounds[-1][-1] == 2**PRECISION
            start += size


class SymbolDecoder:
    """Symbols of calls: sorted by table, escapes after them."""

    def __init__(self, data: bytes) -> None:
        self.coder = RangeDecoder(data)
        self.crc = 0

    def read(self, index: NDArray[Any], tables: Tables) -> Ints:
        """Decode the symbols (N,) of one call under tables `index` (N,)."""
        symbols = np.zeros(len(index), dtype=np.int64)
        escaped: list[tuple[int, int, int]] = []
        for t in np.unique(index).tolist():
            places = np.flatnonzero(index == t)
            bounds, offset = tables.bounds[t], tables.offsets[t]
            entries = np.array(self.coder.decode(bounds, len(places)), dtype=np.int64)
            symbols[places] = entries + offset
            escape = len(bounds) - 2
            escaped += [(int(p), offset - 1, offset + escape) for p in places[entries == escape]]
        if escaped:
            for (place, below, above), value in zip(escaped, self.escapes(len(escaped)), strict=True):
                distance, side = divmod(value - 1, 2)
                symbols[place] = above + distance if side else below - distance
        if len(symbols) and np.abs(symbols).max() > SYMBOL_MAX:
            raise CorruptError("a symbol exceeds 24 bits")
        self.crc = zlib.crc32(symbols.astype("<i4").tobytes(), self.crc)
        return symbols

    def escapes(self, count: int) -> list[int]:
        """Decode numbers >= 1: first the bit lengths of all, then their low bits, by bit length."""
        low_bits = self.coder.uniform(5, count)
        values = [1 << n for n in low_bits.tolist()]
        for n in sorted(set(low_bits.tolist()) - {0}):
            places = np.flatnonzero(low_bits == n).tolist()
            for shift in range(0, n, 16):
                pieces = self.coder.uniform(min(16, n - shift), len(places)).tolist()
                for place, piece in zip(places, pieces, strict=True):
                    values[place] += piece << shift
        return values


def clamp(x: Ints) -> Ints:
    return np.clip(x, -ACTIVATION_MAX, ACTIVATION_MAX)


def shuffle(x: Ints) -> Ints:
    """Spread groups of four channels over 2x2 positions: (4 C, H, W) to (C, 2 H, 2 W)."""
    c, h, w = x.shape
    return x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c // 4, 2 * h, 2 * w)


class Networks:
    """Integer networks of one model, at one rate point."""

    def __init__(self, state: Mapping[str, NDArray[Any]], prefix: str, q: int) -> None:
        self.state, self.prefix, self.q = state, prefix, q

    def get(self, name: str) -> Ints:
        return np.asarray(self.state[self.prefix + name]).astype(np.int64)

    def leaky(self, x: Ints) -> Ints:
        return np.where(x < 0, x * SLOPE >> 16, x)

    def first_gain(self, name: str, x: Ints) -> Ints:
        """The gain through which activations enter a network."""
        return self.gain(name, x)

    def inner_bias(self, name: str, x: Ints) -> Ints:
        """A bias inside of a network."""
        return self.bias(name, x)

    def limit(self, total: Ints, shift: Ints, *, last: bool) -> Ints:
        """Make activations of sums; those of the last layer leave the network."""
        return clamp(total >> shift)

    def gain(self, name: str, x: Ints) -> Ints:
        return clamp(x * self.get(name + ".gain")[self.q, :, None, None] >> 16)

    def bias(self, name: str, x: Ints) -> Ints:
        return clamp(x + self.get(name + ".bias")[self.q, :, None, None])

    def conv(self, name: str, x: Ints, part: slice = slice(None), *, last: bool = False) -> Ints:
        """Convolve (I, H, W) to (O, H, W), zeros around; `part` takes some of the output channels only."""
        weight, bias, shift = (self.get(f"{name}.{field}")[part] for field in ("weight", "bias", "shift"))
        _, inputs, size, _ = weight.shape
        _, h, w = x.shape
        padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
        total = np.zeros((len(weight), h, w), dtype=np.int64)
        for dy, dx in np.ndindex(size, size):
            tap, view = weight[:, :, dy, dx], padded[:, dy : dy + h, dx : dx + w]
            if inputs == len(x):
                total += np.tensordot(tap, view, axes=1)
            else:
                assert (inputs, len(weight)) == (1, len(x)), "neither dense nor depthwise"
                total += tap[:, :, None] * view
        return self.limit(total + bias[:, None, None], shift[:, None, None], last=last)

    def features(self, z: Ints) -> Ints:
        """Hyper-synthesis: z (Z, h / 4, w / 4) to features (F, h, w)."""
        x = self.first_gain("h_s_exact.gain", clamp(z << FRACTION))
        x = self.leaky(self.inner_bias("h_s_exact.bias", self.conv("h_s_exact.stem", x)))
        x = self.leaky(shuffle(self.conv("h_s_exact.net.0.0", x)))
        return shuffle(self.conv("h_s_exact.net.3.0", self.conv("h_s_exact.net.2", x)))

    def parameters(self, step: int, y_hat: Ints, features: Ints) -> list[tuple[Ints, Ints]]:
        """Mean and table index (M / 4, h / 2, w / 2) of the four channel groups in one step of the quadtree."""
        if step:
            x = self.first_gain("context.exact.normalise", y_hat)
            x = self.conv(f"context.exact.spatial.{step - 1}", self.conv(f"context.exact.project.{step - 1}", x))
            features = features + self.conv(f"context.exact.expand.{step - 1}", self.leaky(x))
        x = self.leaky(self.conv(f"context.exact.fuse.{step}", self.leaky(features)))
        means, indices = [], []
        for g in range(4):
            dy, dx = PHASES[(step + g) % 4]
            block = len(y_hat) // 2  # Mean and index of a quarter of the channels.
            at = (2 * dy + dx) * block
            out = self.conv(f"context.exact.output.{step}", x[:, dy::2, dx::2], slice(at, at + block), last=True)
            means.append(out[: block // 2])
            indices.append(out[block // 2 :])
        mean = self.gain("context.exact.mean_gain", np.concatenate(means))
        index = self.bias("context.exact.index_bias", np.concatenate(indices))
        nearest = np.clip(index + (1 << FRACTION - 1) >> FRACTION, 0, SCALES - 1)
        return list(zip(np.split(mean, 4), np.split(nearest, 4), strict=True))


class NarrowNetworks(Networks):
    """Integers of 12 bits, of which 6 are fractional, inside of networks."""

    def leaky(self, x: Ints) -> Ints:
        return np.where(x < 0, np.rint(x / 8).astype(np.int64), x)

    def first_gain(self, name: str, x: Ints) -> Ints:
        product = (x * self.get(name + ".gain")[self.q, :, None, None]).astype(np.float64) / 2**20
        return np.clip(np.rint(product.astype(np.float32)).astype(np.int64), -NARROW_MAX, NARROW_MAX)

    def inner_bias(self, name: str, x: Ints) -> Ints:
        return np.clip(x + self.get(name + ".bias")[self.q, :, None, None], -NARROW_MAX, NARROW_MAX)

    def limit(self, total: Ints, shift: Ints, *, last: bool) -> Ints:
        assert np.abs(total).max() < 2**24
        return clamp(total << 4 >> shift) if last else np.clip(total >> shift, -NARROW_MAX, NARROW_MAX)


def decode_unit(
    state: Mapping[str, NDArray[Any]],
    config: Config,
    payload: bytes,
    shape: tuple[int, int],
    q: int,
    prefix: str = "entropy.",
) -> DecodedUnit:
    """Decode the payload of one unit of an exported `image-light`.

    Args:
        state: Integer state of the model by name, as `triode.entropy.exact.state.entropy_state` names it.
        config: Its widths.
        payload: The unit's entropy coded bytes.
        shape: (h, w) of the latent.
        q: Rate point, 0 to 63.
        prefix: What the names of the entropy model begin with.
    """
    nets = (NarrowNetworks if config.narrow else Networks)(state, prefix, q)
    z_tables, y_tables = (
        Tables(*(state[f"{prefix}{part}.tables.{field}"] for field in ("masses", "sizes", "offsets")))
        for part in ("prior", "context")
    )
    reader = SymbolDecoder(payload)
    (height, width), channels, size = shape, config.latent, config.latent // 4
    small = (config.hyper, -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE))
    z = reader.read(np.repeat(np.arange(config.hyper), small[1] * small[2]), z_tables).reshape(small)

    features = nets.features(z)
    y_hat = np.zeros((channels, *features.shape[1:]), dtype=np.int64)
    for step in range(4):
        groups = nets.parameters(step, y_hat, features)
        crops = []
        for g, (mean, index) in enumerate(groups):
            dy, dx = PHASES[(step + g) % 4]
            y_hat[g * size : (g + 1) * size, dy::2, dx::2] = mean
            inside = np.s_[:, : -(-(height - dy) // 2), : -(-(width - dx) // 2)]
            crops.append((y_hat[g * size : (g + 1) * size, dy::2, dx::2][inside], index[inside]))
        flat = np.concatenate([index.ravel() for _, index in crops])
        symbols = np.zeros(len(flat), dtype=np.int64)
        symbols[flat > 0] = reader.read(flat[flat > 0], y_tables)
        start = 0
        for target, _ in crops:
            target[:] = clamp(target + (symbols[start : start + target.size].reshape(target.shape) << FRACTION))
            start += target.size
    coefficients = read_coefficients(state, q, reader) if config.restored else None
    return DecodedUnit(z, y_hat[:, :height, :width], reader.crc, coefficients)


def read_coefficients(state: Mapping[str, NDArray[Any]], q: int, reader: SymbolDecoder) -> Ints | None:
    """Read the coefficients of the restoration, which follow the latent."""
    fields = (state[f"restoration.tables.{field}"] for field in ("masses", "sizes", "offsets"))
    tables = Tables(*fields)
    absent = int(reader.read(np.zeros(1, dtype=np.int64), tables)[0])
    if absent not in (0, 1):
        raise CorruptError("the switch of the restoration is neither 0 nor 1")
    if absent:
        return None
    group = q // 8
    symbols = reader.read(state["restoration.index"][group].astype(np.int64), tables)
    return symbols + state["restoration.mean"][group].astype(np.int64)
