"""CompressAI's models as learned anchors: real bytes, decoded from these bytes.

The published weights are used where PyTorch's hub folder holds their files already; nothing is ever downloaded. Without
them the networks have random weights: speed and complexity are what they are, sizes and pictures mean nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from triode.errors import BitstreamError, ModelMismatchError, UnsupportedError
from triode.eval.anchors.common import Pixels, check_pixels, package_version, torch_threads
from triode.eval.anchors.options import Options
from triode.eval.coder import Coder, CoderFacts, register_coder

_STRIDES: Final = {
    "mbt2018-mean": 64,
    "bmshj2018-factorized": 16,
    "bmshj2018-hyperprior": 64,
    "mbt2018": 64,
    "cheng2020-anchor": 64,
    "cheng2020-attn": 64,
}
"""Models of the zoo with published weights, the default first, and what pixels an element of their shape spans."""
_METRICS: Final = ("mse", "ms-ssim")
_MULTIPLE: Final = 64
_HEAD: Final = 5
_LENGTH: Final = 4


class _CompressAi(Coder):
    """A model of CompressAI's zoo; quality is its index, from 1 to 8 or 6.

    The file: width and height (16 bits each), quality (8 bits), then the strings of y and of z, if there is one, that
    ``compress`` returns; the length of all but the last stands before it (32 bits). Numbers are big-endian.
    """

    media = "image"

    def __init__(self, options: Options) -> None:
        self._model = options.choice("model", next(iter(_STRIDES)), tuple(_STRIDES))
        self._metric = options.choice("metric", "mse", _METRICS)
        weights = options.choice("weights", "auto", ("auto", "published", "random"))
        self._threads = options.integer("threads", 1, 1, 64)
        options.done()
        try:
            from compressai.zoo import image as zoo
        except ImportError as error:
            raise UnsupportedError("CompressAI's models need it: pip install 'triode[zoo]'") from error
        self._zoo: Any = zoo
        self.name = self._model if self._metric == "mse" else f"{self._model}-{self._metric}"
        files = {quality: self._file(quality) for quality in zoo.model_urls[self._model][self._metric]}
        self._files = {quality: path for quality, path in files.items() if path.is_file() and weights != "random"}
        if weights == "published" and not self._files:
            path = next(iter(files.values()))
            raise UnsupportedError(f"None of the published weights of {self.name} is there, such as {path}")
        # Random networks differ by nothing but their width.
        widths = {zoo.cfgs[self._model][quality]: quality for quality in files}
        self.qualities = tuple(float(quality) for quality in (self._files or sorted(widths.values())))
        self._networks: dict[int, nn.Module] = {}
        self._facts: CoderFacts | None = None

    def encode(self, item: Any, quality: float) -> bytes:
        """Return a file.

        Args:
            item: (H, W, 3) uint8, sRGB, sides up to 65535.
            quality: Index in the zoo.

        Raises:
            ValueError: If the item or the quality is not valid.
            UnsupportedError: If other published weights are there, but not these, or the image is too large.
        """
        pixels = check_pixels(item)
        height, width = pixels.shape[:2]
        if max(height, width) > 0xFFFF:
            raise UnsupportedError(f"An image of {width} x {height} pixels is too large for this header")
        network = self._network(quality)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        x = F.pad(x, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE), mode="replicate")
        with torch_threads(self._threads), torch.inference_mode():
            strings = [batch[0] for batch in network.compress(x)["strings"]]  # type: ignore[operator]
        head = width.to_bytes(2, "big") + height.to_bytes(2, "big") + bytes([int(quality)])
        body = [len(s).to_bytes(_LENGTH, "big") + s for s in strings[:-1]] + strings[-1:]
        return b"".join((head, *body))

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels (H, W, 3) uint8 of what :meth:`encode` returned.

        Raises:
            BitstreamError: If the header is not whole.
        """
        width, height, quality, strings = self._parse(data)
        stride = _STRIDES[self._model]
        rows, columns = (-(-side // _MULTIPLE) * _MULTIPLE // stride for side in (height, width))
        try:
            network = self._network(quality)
        except ValueError as error:
            raise BitstreamError(f"This is no file of {self.name}: {error}") from error
        with torch_threads(self._threads), torch.inference_mode():
            x: Tensor = network.decompress([[s] for s in strings], (rows, columns))["x_hat"]  # type: ignore[operator]
        pixels = (x[0, :, :height, :width].clamp(0, 1) * 255).round().to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())

    def payload_bytes(self, data: bytes) -> int:
        """Return the bytes of the strings, which is what CompressAI counts."""
        return sum(map(len, self._parse(data)[3]))

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of header, y and z."""
        strings = self._parse(data)[3]
        names = ("y", "z")[: len(strings)]
        return {"header": len(data) - self.payload_bytes(data), **dict(zip(names, map(len, strings), strict=True))}

    def facts(self) -> CoderFacts:
        """Return options, versions and complexity; parameters and multiplications are those of the largest quality."""
        if self._facts is None:
            largest = int(self.qualities[-1])
            encode, decode = self._count(self._network(largest))
            self._facts = CoderFacts(
                f"{self.name} (CompressAI{'' if self._files else ', random weights'})",
                kind="learned",
                options={
                    "model": self._model,
                    "metric": self._metric,
                    "weights": "published" if self._files else "random",
                    "complexity_of_quality": largest,
                    "threads": self._threads,
                },
                versions={"compressai": package_version("compressai"), "torch": torch.__version__.split("+")[0]},
                parameters=sum(p.numel() for p in self._network(largest).parameters()),
                encode_kmac=encode,
                decode_kmac=decode,
                digest=", ".join(_hash(path) for path in self._files.values()) or None,
            )
        return self._facts

    def close(self) -> None:
        """Drop the networks."""
        self._networks.clear()

    def _parse(self, data: bytes) -> tuple[int, int, int, list[bytes]]:
        """Return width, height, quality and strings of a file."""
        strings, at = [], _HEAD
        for _ in range(_strings(self._model) - 1):
            length = int.from_bytes(data[at : at + _LENGTH], "big")
            at += _LENGTH
            strings.append(data[at : at + length])
            at += length
        width, height = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        if at > len(data) or len(data) < _HEAD or not width or not height:
            raise BitstreamError(f"{len(data)} bytes are no file of {self.name}")
        return width, height, data[4], [*strings, data[at:]]

    def _file(self, quality: int) -> Path:
        """Return where PyTorch's hub keeps, or would keep, the published weights."""
        name = PurePosixPath(urlparse(self._zoo.model_urls[self._model][self._metric][quality]).path).name
        return Path(torch.hub.get_dir(), "checkpoints", name)

    def _network(self, quality: float) -> nn.Module:
        """Return the network of a quality, loaded once."""
        configs = self._zoo.cfgs[self._model]
        if quality not in configs:
            raise ValueError(f"Quality of {self.name} must be one of {', '.join(map(str, configs))}, but got {quality}")
        index = int(quality)
        if self._files and index not in self._files:
            raise UnsupportedError(f"The published weights of {self.name}, quality {index}, are not there")
        if index not in self._networks:
            kind = self._zoo.model_architectures[self._model]
            if self._files:
                network = kind.from_state_dict(self._zoo.load_pretrained(_load(self._files[index])))
                network.update()
            else:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)
                    network = kind(*configs[index])
                    network.update(force=True)
            self._networks[index] = network.eval().requires_grad_(False)
        return self._networks[index]

    def _count(self, network: nn.Module) -> tuple[float, float]:
        """Count thousands of multiplications a pixel to encode and to decode, on a picture of noise."""
        x = torch.rand(1, 3, _MULTIPLE, _MULTIPLE, generator=torch.Generator().manual_seed(0))
        with torch_threads(self._threads), torch.no_grad():
            with FlopCounterMode(display=False) as encoding:
                coded = network.compress(x)  # type: ignore[operator]
            with FlopCounterMode(display=False) as decoding:
                network.decompress(coded["strings"], coded["shape"])  # type: ignore[operator]
        # The counter counts a multiplication with addition as two.
        pixels = 2 * 1000 * _MULTIPLE**2
        return encoding.get_total_flops() / pixels, decoding.get_total_flops() / pixels


def _strings(model: str) -> int:
    return 1 if model == "bmshj2018-factorized" else 2


def _hash(path: Path) -> str:
    """Return what a published file's name says of its SHA-256: the first digits."""
    return path.name.split(".")[0].rpartition("-")[2]


def _load(path: Path) -> dict[str, Tensor]:
    """Load published weights: tensors only, no code, of the digest that the name states.

    Raises:
        ModelMismatchError: If the file is not the published one.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(_hash(path)):
        raise ModelMismatchError(f"{path.name} has the SHA-256 {found[:8]}..., not the one in its name: it is damaged")
    # The address is the file itself, so that not even a race could cause a download.
    state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
        path.resolve().as_uri(), os.fspath(path.parent), map_location="cpu", progress=False, weights_only=True
    )
    return state


@register_coder("compressai", "image")
def _build(given: Mapping[str, str]) -> Coder:
    return _CompressAi(Options("compressai", given))
