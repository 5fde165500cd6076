"""Coders for tests of the bench, at the top of a module, so that worker processes can have them."""

import hashlib
import os
import random
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import torch

from triode.errors import UnsupportedError
from triode.eval.coder import Coder, CoderFacts
from triode.eval.metrics import MetricInfo, RegisteredMetric


def photo(seed=0, height=40, width=300):
    """Make pixels that differ from their own warm-up piece, which is 256 wide."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([128 + 100 * np.sin(x / (20 + seed)), 2 * y + 60, 128 + 90 * np.cos((x + y) / 31)], -1)
    return (smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)


def pack(pixels, bits):
    return struct.pack("<HHB", *pixels.shape[:2], bits) + zlib.compress((pixels >> (8 - bits)).tobytes())


def unpack(data):
    height, width, bits = struct.unpack("<HHB", data[:5])
    coarse = np.frombuffer(zlib.decompress(data[5:]), np.uint8).reshape(height, width, 3)
    return (coarse.astype(int) * 256 + 128 >> bits).clip(0, 255).astype(np.uint8)


class Bits(Coder):
    """Keeps so many bits of each sample; a word in `trouble` says what goes wrong, and where."""

    media, qualities = "image", (2.0, 4.0, 6.0)

    def __init__(self, name="bits", trouble="", log=None, options=None):
        self.name, self.trouble, self.log, self.options = name, trouble, log, options or {}
        self.closed = 0

    def encode(self, item, quality):
        whole = item.shape[1] > 256
        if self.log is not None:
            with Path(self.log).open("a") as file:
                file.write(f"{'whole' if whole else 'piece'} {hashlib.sha256(item).hexdigest()} {quality:g}\n")
        match self.trouble if whole and quality == 4 else "":
            case "raise":
                raise RuntimeError("no luck\nat all")
            case "exit":
                raise SystemExit(3)
            case "die":
                os._exit(9)
            case "text":
                return "text"
            case "empty":
                return b""
            case "wait":
                time.sleep(60)
        if self.trouble == "scribble":
            data = pack(item, int(quality))
            item[:] = 0
            return data
        if self.trouble == "draw":
            numbers = (random.random(), np.random.random(), float(torch.rand(1)))  # noqa: NPY002
            return pack(item, int(quality)) + repr(numbers).encode()
        return pack(item, int(quality))

    def decode(self, data):
        pixels = unpack(data)
        match self.trouble if pixels.shape[1] > 256 and data[4] == 4 else "":
            case "crop":
                return pixels[:, 1:]
            case "float":
                return pixels / 255
            case "none":
                return None
        return pixels

    def payload_bytes(self, data):
        return len(data) - 5

    def parts(self, data):
        return {"header": 5, "y": len(data) - (7 if self.trouble == "parts" else 5)}

    def facts(self):
        return CoderFacts(f"{self.name} by zlib", options=self.options, versions={"zlib": zlib.ZLIB_VERSION})

    def close(self):
        self.closed += 1


CODEC = Bits("referred")


def make():
    return Bits("made")


class NotACoder:
    pass


def _refuse(decoded, original):
    raise UnsupportedError("too small")


def _break(decoded, original):
    raise RuntimeError("metric broke")


def _info(name):
    return MetricInfo(name, name, "", ("image",), True, 0.0, 1.0, "a test")


REFUSES = RegisteredMetric(_info("refuses"), _refuse)
BREAKS = RegisteredMetric(_info("breaks"), _break)
INFINITE = RegisteredMetric(_info("infinite"), lambda decoded, original: np.inf)
