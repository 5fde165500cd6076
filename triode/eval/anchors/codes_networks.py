"""The networks of EnCodec, DAC and SNAC, each from its own package, behind one interface."""

from __future__ import annotations

import hashlib
import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.errors import UnsupportedError

__all__ = ["CodesNetwork", "DacNetwork", "EncodecNetwork", "SnacNetwork", "Stretch"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Codes of a stretch of sound.

    Attributes:
        codes: (B, K, T) indices into K code books, B sounds side by side.
        scale: (B,) loudness that the network divided by, where it does.
    """

    codes: Tensor
    scale: Tensor | None = None


class CodesNetwork(ABC):
    """A package's model.

    Attributes:
        module: The network.
        rate: Samples per second that it works at.
        channels: Channels of a sound that it takes: 1, or 2.
        qualities: Operating points.
        bits: Bits of an index.
        digest: What identifies the published weights; None for random ones.
    """

    module: nn.Module
    rate: int
    channels: int = 1
    qualities: tuple[float, ...]
    bits: int
    digest: str | None = None

    @abstractmethod
    def encode(self, waves: Tensor, quality: float) -> list[Stretch]:
        """Return the codes of (B, C, T) float32."""

    @abstractmethod
    def decode(self, stretches: Sequence[Stretch]) -> Tensor:
        """Return (B, C, T) float32, as long as the sound was or longer."""


class EncodecNetwork(CodesNetwork):
    """EnCodec (Defossez et al., 2022, arXiv 2210.13438); quality is kb/s as the paper names it."""

    def __init__(self, model: str, weights: str) -> None:
        package: Any = _package("encodec")
        name = {"24khz": "encodec_24khz-d7cc33bc.th", "48khz": "encodec_48khz-7e698e3e.th"}[model]
        file = _choose(weights, Path(torch.hub.get_dir(), "checkpoints", name))
        build: Callable[..., Any] = getattr(package.EncodecModel, f"encodec_model_{model}")
        if file is not None:
            self.module, self.digest = build(pretrained=True, repository=file.parent), _digest(file)
        else:
            self.module = build(pretrained=False)
        network: Any = self.module
        self.rate, self.channels = int(network.sample_rate), int(network.channels)
        self.qualities = tuple(map(float, network.target_bandwidths))
        self.bits = int(network.bits_per_codebook)

    def encode(self, waves: Tensor, quality: float) -> list[Stretch]:
        """Return codes of the whole, or of overlapping seconds."""
        network: Any = self.module
        network.set_target_bandwidth(quality)
        scales = network.encode(waves)
        return [Stretch(codes, None if scale is None else scale.reshape(-1)) for codes, scale in scales]

    def decode(self, stretches: Sequence[Stretch]) -> Tensor:
        """Decode and overlap."""
        network: Any = self.module
        waves: Tensor = network.decode([(s.codes, None if s.scale is None else s.scale[:, None]) for s in stretches])
        return waves


class DacNetwork(CodesNetwork):
    """Descript Audio Codec (Kumar et al., 2023, arXiv 2306.06546); quality is the number of code books."""

    def __init__(self, model: str, weights: str) -> None:
        package: Any = _package("dac", "descript-audio-codec")
        tag, rates = {
            "16khz": ("16khz_8kbps_0.0.5", (2, 4, 5, 8)),
            "24khz": ("24khz_8kbps_0.0.4", (2, 4, 5, 8)),
            "44khz": ("44khz_8kbps_0.0.1", (2, 4, 8, 8)),
        }[model]
        file = _choose(weights, Path.home() / ".cache" / "descript" / "dac" / f"weights_{tag}.pth")
        if file is not None:
            self.module, self.digest = package.DAC.load(str(file)), _digest(file)
        else:
            size = {"16khz": (16000, 12), "24khz": (24000, 32), "44khz": (44100, 9)}[model]
            self.module = package.DAC(
                encoder_rates=list(rates), decoder_rates=list(rates[::-1]), sample_rate=size[0], n_codebooks=size[1]
            )
        network: Any = self.module
        books = int(network.n_codebooks)
        self.rate, self.bits = int(network.sample_rate), math.ceil(math.log2(network.codebook_size))
        self.qualities = tuple(sorted({max(1, round(books * part / 9)) for part in (1, 2, 3, 5, 7, 9)}))

    def encode(self, waves: Tensor, quality: float) -> list[Stretch]:
        """Return codes of the whole."""
        network: Any = self.module
        if quality != round(quality) or not 1 <= quality <= network.n_codebooks:
            raise ValueError(f"Quality of dac is an integer in 1..{network.n_codebooks}, but got {quality}")
        return [Stretch(network.encode(network.preprocess(waves, self.rate), int(quality))[1])]

    def decode(self, stretches: Sequence[Stretch]) -> Tensor:
        """Decode the whole."""
        network: Any = self.module
        codes = stretches[0].codes
        waves: Tensor = network.decode(network.quantizer.from_codes(codes)[0])
        # Layers of odd stride (16 and 24 kHz) give a few samples less than they took; the end is filled with zeros.
        return F.pad(waves, (0, max(0, codes.shape[-1] * int(network.hop_length) - waves.shape[-1])))


class SnacNetwork(CodesNetwork):
    """SNAC (Siuzdak et al., 2024, arXiv 2410.14411); one operating point, named by the number of code books."""

    def __init__(self, model: str, weights: str) -> None:
        package: Any = _package("snac")
        folder = _choose(weights, _snac_cache(model))
        if folder is not None:
            self.module = package.SNAC.from_pretrained(str(folder))
            self.digest = _digest(folder / "pytorch_model.bin")
        else:
            self.module = package.SNAC(**_SNAC_CONFIGS[model])
        network: Any = self.module
        self.rate, self.bits = int(network.sampling_rate), math.ceil(math.log2(network.codebook_size))
        self.qualities = (float(network.n_codebooks),)

    def encode(self, waves: Tensor, quality: float) -> list[Stretch]:
        """Return the codes of each scale of time."""
        network: Any = self.module
        if quality not in self.qualities:
            raise ValueError(f"Quality of this snac must be {self.qualities[0]:g}, but got {quality}")
        return [Stretch(codes[:, None]) for codes in network.encode(waves)]

    def decode(self, stretches: Sequence[Stretch]) -> Tensor:
        """Decode; the network adds noise, which is the same in every run."""
        network: Any = self.module
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            waves: Tensor = network.decode([stretch.codes[:, 0] for stretch in stretches])
        return waves


def _snac_config(
    rate: int, dim: int, rates: tuple[int, ...], decoder_dim: int, window: int | None, strides: tuple[int, ...]
) -> Mapping[str, Any]:
    return {
        "sampling_rate": rate,
        "encoder_dim": dim,
        "encoder_rates": list(rates),
        "decoder_dim": decoder_dim,
        "decoder_rates": list(rates[::-1]),
        "attn_window_size": window,
        "vq_strides": list(strides),
    }


# The configurations that are published with the weights.
_SNAC_CONFIGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "24khz": _snac_config(24000, 48, (2, 4, 8, 8), 1024, None, (4, 2, 1)),
    "32khz": _snac_config(32000, 64, (2, 3, 8, 8), 1536, 32, (8, 4, 2, 1)),
    "44khz": _snac_config(44100, 64, (3, 3, 7, 7), 1536, 32, (8, 4, 2, 1)),
}


def _package(module: str, distribution: str | None = None) -> Any:
    """Import a package.

    Raises:
        UnsupportedError: If it is missing, or does not import here.
    """
    name = distribution or module
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnsupportedError(f"this needs the package {name}, which does not import: {error}") from error


def _choose(weights: str, path: Path | None) -> Path | None:
    """Return the published weights if they are wanted and there."""
    there = path is not None and path.exists()
    if weights == "published" and not there:
        raise UnsupportedError(f"the published weights are not there: {path or 'no such file in the cache'}")
    return path if there and weights != "random" else None


def _snac_cache(model: str) -> Path | None:
    """Return the folder of published weights in Hugging Face's cache, if they are there."""
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError:
        return None
    files = [hub.try_to_load_from_cache(f"hubertsiuzdak/snac_{model}", n) for n in ("config.json", "pytorch_model.bin")]
    return Path(files[0]).parent if all(isinstance(file, str) for file in files) else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
