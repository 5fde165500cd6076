"""Triode's own codec on the bench."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any, cast, get_args

import numpy as np
import torch

from triode.codecs.image import ImageCodec
from triode.codecs.refine import Effort
from triode.codecs.tiles import latent_size
from triode.container import ContainerReader, tile_grid
from triode.entropy.coder import RangeReader, RangeWriter
from triode.entropy.hyperprior import Hyperprior
from triode.entropy.tables import CdfTables, Int32Array, IntArray
from triode.eval.anchors.common import Pixels, check_pixels, torch_threads
from triode.eval.anchors.options import Options
from triode.eval.coder import Coder, CoderFacts, register_coder
from triode.media import Picture
from triode.models.image.single_rate import SingleRateModel
from triode.models.weights import default_weights, load_weights
from triode.version import __version__


class TriodeImageCoder(Coder):
    """The image codec with one model; its name on the bench is the model's.

    Weights are loaded and checked at construction, outside of all timing.

    Args:
        options: ``model`` (name or path of weights), ``effort`` (``none``, ``low`` or ``high``), ``threads``.

    Raises:
        ValueError: If an option is unknown or invalid.
        ModelMismatchError: If the weights are missing or damaged.
    """

    media = "image"
    qualities: tuple[float, ...] = (10.0, 30.0, 50.0, 70.0, 90.0)

    def __init__(self, options: Options) -> None:
        model = options.text("model", default_weights("image"))
        self._effort = cast(Effort, options.choice("effort", "none", get_args(Effort)))
        self._threads = options.integer("threads", 1, 1, 64)
        options.done()
        self._weights = load_weights(model)
        self._codec = ImageCodec(model)
        if isinstance(self._weights.model, SingleRateModel):
            self.qualities = (50.0,)  # all qualities are one
        name = self._weights.info.name
        self.name = name if self._effort == "none" else f"{name}-effort-{self._effort}"

    def encode(self, item: Any, quality: float) -> bytes:
        """Return a ``.tri`` file.

        Args:
            item: (H, W, 3) uint8, sRGB.
            quality: 0 to 100.

        Raises:
            ValueError: If the item or the quality is not valid.
        """
        with torch_threads(self._threads):
            return self._codec.encode(Picture(check_pixels(item)), quality=quality, effort=self._effort).data

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels (H, W, 3) uint8 of a ``.tri`` file.

        Raises:
            CodecError: If the file is damaged or of another model.
        """
        with torch_threads(self._threads):
            return self._codec.decode(data).pixels

    def payload_bytes(self, data: bytes) -> int:
        """Return the entropy coded bytes of all units."""
        return self._codec.info(data).payload_bytes

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of ``header`` (all that is no unit's payload), ``z`` and ``y``.

        The range coder makes one string of z and y, in this order, with no border at a byte. z is weighed by coding its
        symbols again, alone; y is the rest. That is right to within a byte or two a unit.
        """
        reader = ContainerReader(io.BytesIO(data))
        grid = tile_grid(reader.head.image)
        model = self._weights.model
        entropy = getattr(model, "entropy", None)
        side = entropy.prior.tables.get() if isinstance(entropy, Hyperprior) else None
        payload = z = 0
        for unit in reader.units():
            symbols = _SideReader(unit.payload, side)
            with torch_threads(self._threads), torch.inference_mode():
                model.decode(latent_size(model, grid[unit.index]), torch.tensor([unit.rate_point]), symbols)
            payload += len(unit.payload)
            z += min(len(symbols.side.getvalue()), len(unit.payload))
        parts = {"header": len(data) - payload, "z": z, "y": payload - z}
        return parts if side is not None else {"header": parts["header"], "y": payload}

    def facts(self) -> CoderFacts:
        """Return options, versions, complexity and the SHA-256 of the file of weights."""
        info = self._weights.info
        return CoderFacts(
            f"Triode {info.name}{'' if self._effort == 'none' else f', effort {self._effort}'}",
            kind="learned",
            options={"model": info.name, "effort": self._effort, "threads": self._threads},
            versions={"triode": __version__, "torch": torch.__version__.split("+")[0], "numpy": np.__version__},
            parameters=info.parameters,
            encode_kmac=info.kmac_encode or None,
            decode_kmac=info.kmac_decode or None,
            digest=hashlib.sha256(info.path.read_bytes()).hexdigest(),
        )


class _SideReader(RangeReader):
    """A reader that codes what it reads under certain tables a second time, alone."""

    def __init__(self, data: bytes, tables: CdfTables | None) -> None:
        super().__init__(data)
        self.side = RangeWriter()
        self._tables = tables

    def read(self, index: IntArray, tables: CdfTables) -> Int32Array:
        symbols = super().read(index, tables)
        if tables is self._tables:
            self.side.write(symbols, index, tables)
        return symbols


@register_coder("triode", "image")
def _build(given: Mapping[str, str]) -> Coder:
    return TriodeImageCoder(Options("triode", given))
