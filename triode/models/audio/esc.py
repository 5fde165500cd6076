"""``esc``: residual coding across the scales of a window-attention U-Net on spectra (Gu & Diao, "ESC", EMNLP 2024).

The defaults are the published base network for speech at 16 kHz: 50 frames a second, six streams of three codes each,
1.5 kb/s a stream before entropy coding; :data:`ESC_LARGE` is the other. A rate point is a number of streams. Training
starts without quantisers (``unquantised``), as published.

The deepest features are coded first, twice over; at each further scale a stream codes what the decoder's state lacks of
the encoder's features. So the decoder climbs in the course of dequantisation. It climbs through each chunk on its own,
at the encoder and the decoder alike, so that both have the same states to the end of a chunk; above the last stream
its layers see the neighbouring chunks as far as they reach.

Spectra lie in the middle over the 5 ms that they stand for, half a hop later than the published ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from triode.entropy.vq.base import Quantized, VectorQuantizer
from triode.entropy.vq.product import CrossScaleVQ, ProductVQ
from triode.models.audio.vq_codec import VqCodec, VqConfig
from triode.models.layers.audio.stft import StftAnalysis, StftSynthesis
from triode.models.layers.audio.window_attention import PatchEmbed, PatchExpand, Scale, WindowLayer
from triode.models.registry import register_model

__all__ = ["ESC_LARGE", "Esc", "EscConfig", "EscDecoder", "EscEncoder", "EscQuantizer"]

_PARTS = 2  # real and imaginary
_REACH = 2  # patches that the convolution after the decoder's layers sees to each side, beside one spectrum


@dataclass(frozen=True, slots=True)
class EscConfig(VqConfig):
    """Widths of :class:`Esc`.

    Attributes:
        n_fft: Samples of a transform; half of them, and one, are its frequencies.
        spectrum_window: Samples of the window inside it.
        spectrum_hop: Samples from one spectrum to the next.
        patch: Frequencies and spectra of a patch.
        widths: Channels of each scale, the finest first. Each has half of the frequencies of the one before.
        heads: Heads of the attention of each scale but the last, which has none; in the decoder they are those of the
            layers that mirror them.
        depth: Blocks of each layer.
        window: Patches of the attention's window, each way; even.
        ratio: Channels inside of a block's perceptron, as a multiple of its channels.
        groups: Codes of a stream for each frame.
        merge: Patches in time that make a frame.
        codebook_size: Entries of each codebook.
        codebook_dims: Their dimensions, stream by stream; as many as ``widths``.
        commitment: Weight of the commitment loss beside the codebook loss.
    """

    sample_rate: int = 16000
    n_fft: int = 382
    spectrum_window: int = 320
    spectrum_hop: int = 80
    patch: tuple[int, int] = (3, 2)
    widths: tuple[int, ...] = (45, 72, 96, 144, 192, 384)
    heads: tuple[int, ...] = (3, 6, 12, 24, 24)
    depth: int = 2
    window: int = 4
    ratio: float = 4.0
    groups: int = 3
    merge: int = 2
    codebook_size: int = 1024
    codebook_dims: tuple[int, ...] = (32, 32, 16, 12, 8, 6)
    commitment: float = 0.25

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If one is out of range.
        """
        for name in ("patch", "widths", "heads", "codebook_dims"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if min(*self.patch, *self.widths, self.depth, self.groups, self.merge) < 1:
            raise ValueError(f"Widths, depth, groups, merge and both sides of a patch must be positive, but got {self}")
        if len(self.widths) < 2 or {len(self.heads) + 1, len(self.codebook_dims)} != {len(self.widths)}:
            raise ValueError(
                "Arguments `heads` and `codebook_dims` must be one shorter than, and as long as, two or more `widths`, "
                f"but got {self.heads} and {self.codebook_dims} for {self.widths}"
            )
        if self.window < 2 or self.window % 2:
            raise ValueError(f"Argument `window` must be even, but got {self.window}")
        bins, divisor = self.n_fft // 2 + 1, self.patch[0] << (len(self.widths) - 1)
        if bins % divisor:
            raise ValueError(f"Argument `n_fft` must make a multiple of {divisor} frequencies, but makes {bins}")

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return self.spectrum_hop * self.patch[1] * self.merge

    @property
    def multiple(self) -> int:
        """Frames that windows of attention need a multiple of."""
        return math.lcm(self.window, self.merge) // self.merge

    @property
    def planes(self) -> tuple[tuple[int, int], ...]:
        """Frequencies and channels of each scale that is coded, the deepest first."""
        patches = (self.n_fft // 2 + 1) // self.patch[0]
        return tuple((patches >> i, self.widths[i]) for i in range(len(self.widths) - 1, 0, -1))

    def layer(self, index: int, scale: Scale) -> WindowLayer:
        """Build the layer from scale ``index`` to the next or, upwards, from the next to it; or one that stays there.

        The one upwards has as many heads as the published one: its own scale's, in the order of the decoder.
        """
        here, there = self.widths[index], self.widths[index + (scale != "none")]
        if scale == "up":
            here, there = there, here
        return WindowLayer(
            here, there, self.heads[index], depth=self.depth, window=self.window, ratio=self.ratio, scale=scale
        )

    def spoilt(self, layers: int, columns: int = 0) -> int:
        """Tell how many columns at a cut do not come out of layers as they would without it.

        Args:
            layers: Number of layers in a row. Cuts lie between windows that are not shifted.
            columns: Columns that already go in so.
        """
        for _ in range(layers):
            for block in range(self.depth):
                shift = self.window // 2 if block % 2 else 0
                columns = -(-(columns - shift) // self.window) * self.window + shift
        return columns


ESC_LARGE = EscConfig(depth=4, codebook_dims=(8,) * 6)
"""The published large network: twice the blocks, 8 dimensions for every code."""


class EscEncoder(nn.Module):
    """Samples (B, 1, F * hop) to the features of all scales that are coded, (B, D, F); see :func:`pack`.

    Args:
        config: Shape of the network.
    """

    def __init__(self, config: EscConfig) -> None:
        super().__init__()
        c = self.config = config
        self.spectra = StftAnalysis(c.n_fft, c.spectrum_hop, window_length=c.spectrum_window, normalized=False)
        self.patch_embed = PatchEmbed(_PARTS, c.widths[0], c.patch)
        self.pre_nn = c.layer(0, "none")
        self.blocks = nn.ModuleList(c.layer(i, "down") for i in range(len(c.heads)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, F * hop) to (B, D, F)."""
        y = self.pre_nn(self.patch_embed(self.spectra(x)[:, 0]))
        planes: list[Tensor] = []
        for block in self.blocks:
            y = block(y)
            planes.append(_flat(y))
        return pack(planes[::-1], self.config.merge)

    @property
    def reach(self) -> int:
        """Frames beyond a run of them, to the farther side, that its features depend on."""
        c, framing = self.config, self.spectra.framing
        spectra = -(-max(framing.left, framing.lookahead) // framing.hop)
        return -(-c.spoilt(1 + len(c.heads), -(-spectra // c.patch[1])) // c.merge)


class EscQuantizer(VectorQuantizer):
    """Codes of all scales, and the part of the decoder that climbs from one to the next.

    Features, and what codes decode to, are those of all scales: after the last stream of a scale, its refined state.

    Args:
        config: Shape of the network.
    """

    def __init__(self, config: EscConfig) -> None:
        c, planes = config, config.planes
        streams = (planes[0], *planes)
        count = len(streams) * c.groups
        super().__init__(c.merge * sum(h * w for h, w in planes), [c.codebook_size] * count, [1] * count)
        self.config = c
        self.scales = CrossScaleVQ(
            [
                ProductVQ(height * width, c.codebook_size, dim, c.groups, c.merge, commitment=c.commitment)
                for (height, width), dim in zip(streams, c.codebook_dims, strict=True)
            ]
        )
        self.steps = nn.ModuleList(c.layer(i, "up") for i in range(len(c.heads) - 1, 0, -1))

    def code_vectors(self) -> tuple[Tensor, ...]:
        """Return the entries of the codebooks, each stream's in dimensions of its own."""
        books = [book for name, book in self.scales.named_parameters() if name.endswith(".entries")]
        each = [book.detach() for book in books]
        starts = [sum(book.shape[1] for book in each[:i]) for i in range(len(each))]
        vectors = [book.new_zeros(len(book), sum(b.shape[1] for b in each)) for book in each]
        for vector, book, start in zip(vectors, each, starts, strict=True):
            vector[:, start : start + book.shape[1]] = book
        return tuple(vectors)

    def _climber(self) -> tuple[Callable[[int, Tensor], Tensor], list[Tensor]]:
        """Return what climbs from a stream's state to the next one's, and the states that it has left behind."""
        states: list[Tensor] = []

        def expand(stream: int, state: Tensor) -> Tensor:
            if stream == 0:  # The second stream codes the deepest scale once more.
                return state
            states.append(state)
            height, width = self.config.planes[stream - 1]
            return _flat(self.steps[stream - 1](_plane(state, height, width)))

        return expand, states

    def _unpacked(self, x: Tensor) -> list[Tensor]:
        features = unpack(x, [height * width for height, width in self.config.planes], self.config.merge)
        return [features[0], *features]

    def _packed(self, states: Sequence[Tensor]) -> Tensor:
        return pack(states, self.config.merge)

    def _quantise(self, x: Tensor, path: Tensor, counts: int | Tensor) -> Quantized:
        # `path` is `x`: this quantiser stands in no other.
        expand, states = self._climber()
        out = self.scales(self._unpacked(x), expand, counts)
        values = self._packed([*states, out.values])
        return Quantized(values, out.codes, out.loss, out.usage, out.perplexity)

    def _encode(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        return self.scales.encode(self._unpacked(x), self._climber()[0], count)

    def _decode(self, codes: Sequence[Tensor], frames: int) -> Tensor:
        expand, states = self._climber()
        last = self.scales.decode(codes, expand, frames * self.config.merge)
        return self._packed([*states, last])

    def _bypass(self, x: Tensor) -> Tensor:
        expand, states = self._climber()
        last = self.scales.bypass(self._unpacked(x), expand)
        return self._packed([*states, last])


class EscDecoder(nn.Module):
    """The finest scale that is coded, last of (B, D, F), to samples (B, 1, F * hop).

    Args:
        config: Shape of the network.
    """

    def __init__(self, config: EscConfig) -> None:
        super().__init__()
        c = self.config = config
        self.block = c.layer(0, "up")
        self.post_nn = c.layer(0, "none")
        self.patch_deembed = PatchExpand(c.widths[0], _PARTS, c.patch)
        self.spectra = StftSynthesis(c.n_fft, c.spectrum_hop, window_length=c.spectrum_window, normalized=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, F) to (B, 1, F * hop)."""
        height, width = self.config.planes[-1]
        (state,) = unpack(x[:, -self.config.merge * height * width :], [height * width], self.config.merge)
        y: Tensor = self.spectra(self.patch_deembed(self.post_nn(self.block(_plane(state, height, width))))[:, None])
        return y

    @property
    def reach(self) -> int:
        """Frames beyond a run of them, to the farther side, that its samples depend on."""
        c, framing = self.config, self.spectra.framing
        spectra = (c.spoilt(2) + _REACH) * c.patch[1] + 1
        beyond = max(framing.window - framing.left, framing.hop + framing.left)
        return -(-((spectra - 1) * framing.hop + beyond) // c.hop)


class Esc(VqCodec):
    """See the module's text.

    Args:
        config: Widths.

    Raises:
        ValueError: If they do not suit each other.
    """

    config: EscConfig

    def __init__(self, config: EscConfig | None = None) -> None:
        c = config or EscConfig()
        encoder, decoder = EscEncoder(c), EscDecoder(c)
        super().__init__(
            c,
            encoder,
            EscQuantizer(c),
            decoder,
            hop=c.hop,
            analysis_halo=encoder.reach,
            synthesis_halo=decoder.reach,
            multiple=c.multiple,
        )

    @property
    def rates(self) -> tuple[int, ...]:
        """Numbers of stages that rate points choose from: whole streams."""
        return tuple(range(self.config.groups, self.stages + 1, self.config.groups))


def pack(features: Sequence[Tensor], merge: int) -> Tensor:
    """Lay features of several scales one behind the other, some columns to a frame.

    Args:
        features: (B, D_i, merge * F) each.
        merge: Columns of a frame.

    Returns:
        (B, D, F), where D is merge times the sum of all D_i.
    """
    frames = [x.reshape(*x.shape[:2], -1, merge).permute(0, 3, 1, 2).flatten(1, 2) for x in features]
    return torch.cat(frames, 1)


def unpack(x: Tensor, dims: Sequence[int], merge: int) -> list[Tensor]:
    """Undo :func:`pack`.

    Args:
        x: (B, D, F).
        dims: All D_i.
        merge: Columns of a frame.

    Returns:
        (B, D_i, merge * F) each.
    """
    parts = torch.split(x, [merge * dim for dim in dims], 1)
    return [
        part.reshape(len(x), merge, dim, -1).permute(0, 2, 3, 1).flatten(2)
        for part, dim in zip(parts, dims, strict=True)
    ]


def _flat(plane: Tensor) -> Tensor:
    """Map (B, H, W, C) to (B, C * H, W)."""
    return plane.permute(0, 3, 1, 2).flatten(1, 2)


def _plane(flat: Tensor, height: int, width: int) -> Tensor:
    """Map (B, C * H, W) back to (B, H, W, C)."""
    return flat.reshape(len(flat), width, height, -1).permute(0, 2, 3, 1)


@register_model("esc", EscConfig, media="audio")
def esc(config: EscConfig) -> nn.Module:
    """Build :class:`Esc`."""
    return Esc(config)
