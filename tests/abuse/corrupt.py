"""Damages files: generators of (name, bytes), usable on a file of any format unless they say otherwise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from abuse import samples


class Variant(NamedTuple):
    name: str
    data: bytes


def truncations(data: bytes, *, step: int = 1) -> Iterator[Variant]:
    """Cut the file short at every `step`-th byte, from nothing to all but one byte."""
    for length in range(0, len(data), step):
        yield Variant(f"first {length} of {len(data)} bytes", data[:length])


def bit_flips(data: bytes, start: int = 0, stop: int | None = None, *, step: int = 1) -> Iterator[Variant]:
    """Flip one bit: every `step`-th bit of the bytes `start..stop`."""
    stop = len(data) if stop is None else min(stop, len(data))
    for bit in range(8 * start, 8 * stop, step):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield Variant(f"bit {bit % 8} of byte {bit // 8} flipped", bytes(damaged))


def mutations(data: bytes, count: int, *, seed: int = 0) -> Iterator[Variant]:
    """Change the file at random, one to four times: bytes replaced, removed, repeated, inserted, moved."""
    rng = random.Random(seed)
    for number in range(count):
        damaged = data
        for _ in range(rng.randint(1, 4)):
            damaged = _mutate(damaged, rng)
        if damaged != data:
            yield Variant(f"mutation {number} of seed {seed}", damaged)


def random_files(count: int, *, max_length: int = 300, seed: int = 0, prefix: bytes = b"") -> Iterator[Variant]:
    """Random bytes behind `prefix`, which may be a signature to come past the first check."""
    rng = random.Random(seed)
    for number in range(count):
        yield Variant(f"random {number} of seed {seed}", prefix + rng.randbytes(rng.randint(0, max_length)))


def payload_mutations(data: bytes, count: int, *, seed: int = 0, kinds: tuple[bytes, ...] = ()) -> Iterator[Variant]:
    """Change the payload of one random chunk of a `.tri` file and make its CRC-32 right again.

    These pass the checksums and reach whatever reads the payload. `kinds` restricts the chunk types.
    """
    rng = random.Random(seed)
    chunks = samples.split(data)
    places = [i for i, chunk in enumerate(chunks) if not kinds or chunk.type in kinds]
    for number in range(count):
        place = rng.choice(places)
        kind, payload = chunks[place]
        changed = _mutate(payload, rng)
        if changed != payload:
            name = f"{kind.decode()} payload mutation {number} of seed {seed}"
            yield Variant(name, samples.join(*chunks[:place], (kind, changed), *chunks[place + 1 :]))


def chunk_shuffles(data: bytes, count: int, *, seed: int = 0) -> Iterator[Variant]:
    """Drop, repeat and move whole valid chunks of a `.tri` file."""
    rng = random.Random(seed)
    chunks = samples.split(data)
    for number in range(count):
        order = list(range(len(chunks)))
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(order)) if order else 0
            action = rng.randrange(3)
            if action == 0 and order:
                del order[place]
            elif action == 1 and order:
                order.insert(rng.randrange(len(order) + 1), order[place])
            else:
                order.insert(rng.randrange(len(order) + 1), order.pop(place) if order else 0)
        if order != list(range(len(chunks))):
            yield Variant(f"chunk shuffle {number} of seed {seed}", samples.join(*(chunks[i] for i in order)))


def _mutate(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randint(0, len(data))
    end = min(len(data), begin + rng.randint(0, 8))
    piece = data[begin:end]
    action = rng.randrange(5)
    if action == 0:
        return data[:begin] + rng.randbytes(len(piece)) + data[end:]
    if action == 1:
        return data[:begin] + data[end:]
    if action == 2:
        return data[:end] + piece + data[end:]
    if action == 3:
        return data[:begin] + rng.choice((b"\x00", b"\x7f", b"\x80", b"\xff")) * rng.randint(1, 8) + data[begin:]
    rest = data[:begin] + data[end:]
    place = rng.randint(0, len(rest))
    return rest[:place] + piece + rest[place:]
