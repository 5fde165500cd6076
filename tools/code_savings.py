"""How many bytes entropy coding saves against fixed-length codes of the same symbols, on recordings.

    python tools/code_savings.py SOUND_OR_FOLDER... [--model NAME] [--qualities 10,30,50,70,90] [--limit N]

Each recording is encoded to a real file. Its symbols are decoded again and given a code of fixed length instead:

* Of a model with scalar quantisers, the symbols are the integers that the range coder codes: distances from predicted
  means, channel by channel of y and z. Elements that are not coded, as they are zero by definition, count as the zeros
  that they are. A channel's code has as many words as integers lie between its least and its greatest symbol in that
  file. So the fixed-length code is granted the predictions, which make ranges small, and a range for each channel and
  file that nothing pays for.
* Of a model with codebooks, a code has as many words as its codebook has entries.

``fixed_bytes`` packs words without loss, log2 of their number each; ``fixed_bytes_whole_bits`` takes whole bits a word,
as codes of fixed length in files do. ``coded_bytes`` are the entropy coded bytes in the file; ``saving`` says by how
much they are fewer than ``fixed_bytes``. ``file_saving`` compares whole files, whose other bytes are the same.
``strict_saving`` grants even more: ranges that are chosen anew for each channel in each unit, about a second, still for
nothing.

Prints one JSON object with the sums over all recordings at each quality.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from triode.codecs.audio import AudioCodec
from triode.codecs.chunks import Chunking
from triode.container import ContainerReader, SoundUnit, Unit, read_sound_unit
from triode.entropy.coder import RangeReader
from triode.entropy.context.model import ContextModel
from triode.entropy.factorized import FactorizedPrior
from triode.errors import UnsupportedError
from triode.io.audio import READABLE, read_sound
from triode.media import Sound
from triode.models.base import AudioModel
from triode.models.weights import Loaded, default_weights, load_weights

Symbols = dict[str, list[NDArray[np.int64]]]
"""Symbols (C, N) of each kind, such as y and z, by channel."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of recordings.

    Attributes:
        seconds: Duration.
        symbols: Number of symbols.
        file_bytes: Of the files.
        coded_bytes: Entropy coded, a part of ``file_bytes``.
        fixed: The same symbols in words of fixed length, packed without loss.
        whole: The same in words of whole bits.
        strict: As ``fixed``, with ranges chosen anew in each unit.
    """

    seconds: float
    symbols: int
    file_bytes: int
    coded_bytes: int
    fixed: float
    whole: float
    strict: float

    def __add__(self, other: Sizes) -> Sizes:
        """Return the sums."""
        return Sizes(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def report(self) -> dict[str, float]:
        """Return what is printed."""

        def saved(size: float, other: float) -> float:
            return round(1 - size / other, 4) if other else 0.0

        return {
            "kbps": round(8 * self.file_bytes / 1000 / self.seconds, 3),
            "symbols": self.symbols,
            "file_bytes": self.file_bytes,
            "coded_bytes": self.coded_bytes,
            "fixed_bytes": math.ceil(self.fixed),
            "fixed_bytes_whole_bits": math.ceil(self.whole),
            "saving": saved(self.coded_bytes, self.fixed),
            "saving_whole_bits": saved(self.coded_bytes, self.whole),
            "file_saving": saved(self.file_bytes, self.file_bytes - self.coded_bytes + self.fixed),
            "strict_saving": saved(self.coded_bytes, self.strict),
        }


@contextmanager
def recorded(found: Symbols) -> Iterator[None]:
    """Note in `found` the symbols that scalar entropy models decode while the block runs."""
    place, decode = ContextModel._place, FactorizedPrior.decode

    def note_y(y_hat: Any, step: Any, maps: Any, symbols: Any, valid: Any) -> None:
        start, channels = 0, found.setdefault("y", [np.zeros(0, np.int64) for _ in range(y_hat.shape[1])])
        for entry in step:
            count = math.prod(entry.valid(*valid))
            for channel in range(entry.start, entry.stop):
                channels[channel] = np.concatenate((channels[channel], symbols[start : start + count]))
                start += count
        place(y_hat, step, maps, symbols, valid)

    def note_z(self: FactorizedPrior, shape: Any, reader: Any) -> Any:
        symbols = decode(self, shape, reader)
        channels = found.setdefault("z", [np.zeros(0, np.int64) for _ in range(shape[0])])
        for channel, values in enumerate(symbols[0].flatten(1).numpy()):
            channels[channel] = np.concatenate((channels[channel], values))
        return symbols

    ContextModel._place, FactorizedPrior.decode = staticmethod(note_y), note_z  # type: ignore[method-assign]
    try:
        yield
    finally:
        ContextModel._place, FactorizedPrior.decode = staticmethod(place), decode  # type: ignore[method-assign]


def word_bits(symbols: Symbols) -> tuple[float, float]:
    """Return the bits of symbols in words of fixed length for each channel: packed without loss, and whole bits."""
    packed = whole = 0.0
    for channels in symbols.values():
        for values in channels:
            bits = math.log2(int(values.max()) - int(values.min()) + 1) if len(values) else 0.0
            packed += len(values) * bits
            whole += len(values) * math.ceil(bits)
    return packed, whole


def code_bits(model: Any, frames: int, point: int) -> tuple[int, float, float]:
    """Return number and bits of the codes of a channel of a model with codebooks: packed, and in whole bits."""
    count = int(model.stage_counts(torch.tensor([point]))[0])
    stages = list(zip(model.quantizer.codebook_sizes, model.quantizer.strides, strict=True))[:count]
    packed = sum(frames // stride * math.log2(size) for size, stride in stages)
    whole = sum(frames // stride * math.ceil(math.log2(size)) for size, stride in stages)
    return sum(frames // stride for _, stride in stages), packed, whole


def measure(sound: Sound, weights: Loaded[AudioModel], quality: float) -> Sizes:
    """Encode a recording, and compare with codes of fixed length.

    Raises:
        UnsupportedError: If the model's symbols are of no known kind, or there are none.
    """
    data = AudioCodec(weights).encode(sound, quality=quality, tags=()).data or b""
    reader, model = ContainerReader(io.BytesIO(data)), weights.model
    head = reader.head.audio
    chunking = Chunking.of_file(model, head)
    everything: Symbols = {}
    coded = symbols = 0
    fixed = whole = strict = 0.0
    for unit in reader.units():
        layout = read_sound_unit(unit.payload, head, unit.index)
        frames, channels = chunking.padded(head.unit_frames(unit.index)), sum(n is not None for n in layout.levels)
        coded += len(layout.coded)
        if hasattr(model, "quantizer"):
            number, packed, bits = code_bits(model, frames, unit.rate_point)
            symbols += channels * number
            fixed, whole, strict = (
                old + channels * new for old, new in zip((fixed, whole, strict), (packed, bits, packed), strict=True)
            )
            continue
        found = unit_symbols(model, unit, layout, frames)
        strict += word_bits(found)[0]
        for kind, parts in found.items():
            known = everything.setdefault(kind, [np.zeros(0, np.int64)] * len(parts))
            everything[kind] = [np.concatenate(pair) for pair in zip(known, parts, strict=True)]
    if everything:
        fixed, whole = word_bits(everything)
        symbols = sum(len(values) for parts in everything.values() for values in parts)
    if not symbols:
        raise UnsupportedError("there are no symbols of a kind that is known")
    return Sizes(sound.seconds, symbols, len(data), coded, fixed / 8, whole / 8, strict / 8)


@torch.inference_mode()
def unit_symbols(model: AudioModel, unit: Unit, layout: SoundUnit, frames: int) -> Symbols:
    """Return the symbols of a unit, and check that they are those that were coded."""
    found: Symbols = {}
    reader = RangeReader(layout.coded)
    with recorded(found):
        for level in layout.levels:
            if level is not None:
                model.decode(frames, torch.tensor([unit.rate_point]), reader)
    reader.check(unit.symbols_crc32)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--model", help="name or path of weights (default: the general ones)")
    parser.add_argument("--qualities", type=lambda s: [float(q) for q in s.split(",")], default=[10, 30, 50, 70, 90])
    parser.add_argument("--limit", type=int)
    a = parser.parse_args()
    weights = load_weights(a.model or default_weights("audio"), AudioModel)  # type: ignore[type-abstract]
    files = [
        file
        for path in a.paths
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.suffix.lower() in READABLE or file == path
    ][: a.limit]
    if not files:
        sys.exit("there are no recordings")
    sums: dict[float, Sizes] = {}
    for file in files:
        sound = read_sound(file)
        for quality in a.qualities:
            sizes = measure(sound, weights, quality)
            sums[quality] = sums[quality] + sizes if quality in sums else sizes
        print(file.name, file=sys.stderr)
    rows = {f"{quality:g}": sizes.report() for quality, sizes in sums.items()}
    print(json.dumps({"model": weights.info.name, "recordings": len(files), "qualities": rows}, indent=1))


if __name__ == "__main__":
    main()
