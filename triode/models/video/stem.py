"""``stem``: frames coded as images, with an entropy model that knows the frames before (Sun et al., arXiv 2104.06083).

Every frame's samples come from its own latent alone: nothing drifts, and frames that nobody wants need not be made.
What frames have in common is left to the entropy model, which looks at the integer latents of the two frames before.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from triode.container import FrameKind
from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.context.model import ContextModel
from triode.entropy.context.schedule import quadtree
from triode.entropy.exact.layers import to_fixed
from triode.entropy.exact.product import Product
from triode.entropy.hyperprior import Hyperprior
from triode.entropy.outputs import HyperOutput
from triode.models.base import FrameStep, VideoLatent, VideoModel, VideoOutput, VideoState, Yuv
from triode.models.image.image_light import ImageLight, ImageLightConfig, QuadtreeParameters
from triode.models.registry import register_model
from triode.models.video.colour import rgb_to_yuv, yuv_to_rgb
from triode.models.video.light_networks import zero

__all__ = ["Stem", "StemConfig"]

_SLOPE = 0.125


@dataclass(frozen=True, slots=True)
class StemConfig:
    """Widths of :class:`Stem`.

    Attributes:
        image: Widths of the model of images; a mapping of those that are not the defaults will do.
        temporal: Channels that the latents of the frames before are brought to.
        innovation: Channels of what is known of the change since then, in each step of the context.
    """

    image: ImageLightConfig = field(default_factory=ImageLightConfig)
    temporal: int = 96
    innovation: int = 64

    def __post_init__(self) -> None:
        """Take the widths of the model of images as a file names them."""
        if isinstance(self.image, Mapping):
            object.__setattr__(self, "image", ImageLightConfig(**self.image))


class _TemporalAnalysis(nn.Module):
    """The image model's h_a, whose first layer also sees the latent of the frame before."""

    def __init__(self, inner: nn.Module, c: StemConfig) -> None:
        super().__init__()
        self.inner = inner
        self.before = zero(nn.Conv2d(c.image.latent, c.image.parameters, 1))

    def forward(self, y: Tensor, past: Tensor, q: Tensor) -> Tensor:
        inner = cast(Any, self.inner)
        t = inner.net[0](y) + self.before(past[:, : y.shape[1]])
        for layer in inner.net[1:]:
            t = layer(t)
        z: Tensor = inner.gain(t, q).float()
        return z


class _TemporalSynthesis(nn.Module):
    """The image model's h_s plus features of the frames before; hands on the latent of the last one. Becomes integers.

    A pointwise projection and a depthwise 5x5 of the latents of two frames; what it ends in starts at zero.
    """

    def __init__(self, inner: nn.Module, c: StemConfig) -> None:
        super().__init__()
        self.inner = inner
        self.latent = c.image.latent
        self.reduce = nn.Conv2d(2 * c.image.latent, c.temporal, 1)
        self.act = nn.LeakyReLU(_SLOPE)
        self.spatial = nn.Conv2d(c.temporal, c.temporal, 5, padding=2, groups=c.temporal)
        self.expand = zero(nn.Conv2d(c.temporal, c.image.features, 1))

    def forward(self, z: Tensor, past: Tensor, q: Tensor) -> Tensor:
        temporal = self.expand(self.act(self.spatial(self.act(self.reduce(past)))))
        return torch.cat([self.inner(z, q) + temporal, past[:, : self.latent]], 1)


class _TemporalParameters(nn.Module):
    """The image model's context model, aware of the latent of the frame before. Becomes integers.

    Each step also sees what changed where it is decoded already. Means get the latent of the frame before, weighed
    element by element. Both start at zero.
    """

    def __init__(self, inner: QuadtreeParameters, c: StemConfig) -> None:
        super().__init__()
        self.inner = inner
        self.schedule = quadtree(c.image.latent)
        self.features = c.image.features
        self.change = nn.ModuleList(nn.Conv2d(c.image.latent, c.innovation, 1) for _ in range(3))
        self.spatial = nn.ModuleList(
            nn.Conv2d(c.innovation, c.innovation, 3, padding=1, groups=c.innovation) for _ in range(3)
        )
        self.act = nn.LeakyReLU(_SLOPE)
        self.expand = nn.ModuleList(zero(nn.Conv2d(c.innovation, c.image.features, 1)) for _ in range(3))
        hidden, latent = c.image.parameters, c.image.latent
        self.weight = nn.ModuleList(zero(nn.Conv2d(4 * hidden, latent, 1, groups=4)) for _ in range(4))
        self.product = Product()

    def forward(self, step: int, y_hat: Tensor, hyper: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor]]:
        inner = self.inner
        features, before = hyper[:, : self.features], hyper[:, self.features :]
        if step:
            latent = inner.normalise(y_hat, q)
            known = torch.zeros_like(before)
            for entry in (entry for earlier in self.schedule.steps[:step] for entry in earlier):
                entry.view(known).copy_(entry.view(before))
            change = self.spatial[step - 1](self.change[step - 1](latent - known))
            # Four activations, which is as many as the next layer takes.
            features = features + inner.context(step, latent) + self.expand[step - 1](self.act(change))
        hidden = inner.hidden(step, features)
        out = inner.by_group(step, inner.output[step], hidden)
        weight = inner.by_group(step, self.weight[step], hidden)[:, 0]
        same = torch.cat([entry.view(before) for entry in self.schedule.steps[step]], 1)
        return inner.maps(out[:, 0] + self.product(weight, same), out[:, 1], q)


class Stem(VideoModel):
    """See the module's text.

    ``image`` is as it was trained for images: it has no gradients, and stays in evaluation mode. ``entropy`` is what
    training changes; it starts as the entropy model of ``image``, whose rates it has exactly at the start.

    Args:
        config: Widths.
    """

    kinds = frozenset({FrameKind.INTRA, FrameKind.INTER})
    independent = True
    config: StemConfig
    stride = ImageLight.stride
    multiple = ImageLight.multiple

    def __init__(self, config: StemConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or StemConfig()
        if not c.image.context:
            raise ValueError("Argument `image.context` must be at least 1, but got 0")
        if c.image.narrow:
            raise ValueError("Argument `image.narrow` must be False: latents of frames before are Q13.10")
        self.image = ImageLight(c.image).eval().requires_grad_(False)
        inner = copy.deepcopy(self.image.entropy).requires_grad_(True)
        parameters = cast(QuadtreeParameters, inner.context.parameter_net)
        self.entropy = Hyperprior(
            _TemporalAnalysis(inner.h_a, c),
            _TemporalSynthesis(inner.h_s, c),
            inner.prior,
            ContextModel(quadtree(c.image.latent), _TemporalParameters(parameters, c)),
            stride=inner.strides,
        )

    @classmethod
    def from_image(cls, image: ImageLight, **changes: Any) -> Stem:
        """Build a model that codes every frame as a model of images does.

        Args:
            image: The model of images.
            changes: Changes to the default configuration, by field.
        """
        stem = cls(StemConfig(image=image.config, **changes))
        stem.load_image(image.state_dict())
        return stem

    @torch.no_grad()
    def load_image(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a model of images, and start from its entropy model anew.

        Args:
            state: Its floats by name; integers are left out.

        Raises:
            ValueError: If they are of a model of other widths.
        """
        load_floats(self.image, state)
        source = self.image.entropy
        h_a, h_s = cast(_TemporalAnalysis, self.entropy.h_a), cast(_TemporalSynthesis, self.entropy.h_s)
        context = cast(_TemporalParameters, self.entropy.context.parameter_net)
        for part, original in (
            (h_a.inner, source.h_a),
            (h_s.inner, source.h_s),
            (self.entropy.prior, source.prior),
            (context.inner, source.context.parameter_net),
        ):
            load_floats(part, original.state_dict())
        for end in (h_a.before, h_s.expand, *context.expand, *context.weight):
            zero(cast(nn.Conv2d, end))

    def train(self, mode: bool = True) -> Stem:
        """Set the mode of all but the model of images."""
        super().train(mode)
        self.image.eval()
        return self

    def trained(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that training changes."""
        return self.entropy.parameters()

    def latents(self, frames: Sequence[Yuv], q: Tensor) -> Tensor:
        """Return the latents (B, T, M, h, w) of frames, of BT.709, gain not applied; without gradients.

        Args:
            frames: T frames, sides multiples of 16.
            q: (B,) rate points.
        """
        with torch.no_grad():
            analyses = [self.image.analysis(yuv_to_rgb(frame, "bt709").clamp(0, 1), q) for frame in frames]
        return torch.stack(analyses, 1)

    def rates(self, latents: Tensor, q: Tensor) -> dict[str, Tensor]:
        """Return the code lengths of latents; all that training needs.

        Args:
            latents: (B, T, M, h, w), gain not applied; h and w multiples of 4.
            q: (B,) or (B, T) rate points.

        Returns:
            Bits (B, T) of parts ``y`` and ``z``. Those of the first frame, an intra frame, have no gradient.
        """
        return _stack([out.bits for out in self._run(latents, q)])

    def _run(self, latents: Tensor, q: Tensor) -> list[HyperOutput]:
        """Code latents (B, T, M, h, w) one after the other; points (B,) or (B, T)."""
        points = q if q.dim() == 2 else q[:, None].expand(-1, latents.shape[1])
        outputs: list[HyperOutput] = []
        past: tuple[Tensor, ...] = ()
        normalise = cast(QuadtreeParameters, self.image.entropy.context.parameter_net).normalise
        for number, (y, point) in enumerate(zip(latents.unbind(1), points.unbind(1), strict=True)):
            scaled = self.image.scale(y, point)
            if number:
                outputs.append(self.entropy(scaled, point, side=y, past=torch.cat(past, 1)))
            else:
                with torch.no_grad():
                    outputs.append(self.image.entropy(scaled, point, side=y))
            now = normalise(outputs[-1].y_hat.detach(), point)
            past = (now, past[0] if past else now)
        return outputs

    def forward(self, frames: Sequence[Yuv], q: Tensor) -> VideoOutput:
        """Code and decode frames, of BT.709, sides multiples of 64. Only bits have gradients.

        Args:
            frames: The frames in order.
            q: (B,) or (B, T) rate points.
        """
        points = q if q.dim() == 2 else q[:, None].expand(-1, len(frames))
        latents = [self.latents([frame], point) for frame, point in zip(frames, points.unbind(1), strict=True)]
        outputs = self._run(torch.cat(latents, 1), points)
        with torch.no_grad():
            made = [self._samples(o.y_hat, p, "bt709") for o, p in zip(outputs, points.unbind(1), strict=True)]
        return VideoOutput(tuple(made), _stack([out.bits for out in outputs]))

    def rate_lambda(self, q: Tensor) -> Tensor:
        """Return what the model of images does."""
        return self.image.rate_lambda(q)

    def encode(self, frame: Yuv, step: FrameStep, state: VideoState, writer: SymbolWriter) -> VideoLatent:
        """Write the symbols of one frame."""
        q = torch.tensor([step.point])
        x = yuv_to_rgb(frame, state.format.matrix).clamp(0, 1)
        y = self.image.analysis(x.contiguous(memory_format=torch.channels_last), q)
        if step.kind is FrameKind.INTRA:
            return self._latent(self.image.encode(y, q, writer), q, state)
        scaled, weight = self.image.scale(y, q), self.image.error_weight(q)
        y_hat = self.entropy.encode(scaled, q, writer, side=y, weight=weight, past=_past(state))
        return replace(self._latent(y_hat, q, state), astray=float((y_hat - scaled).abs().max()))

    def decode(self, step: FrameStep, state: VideoState, reader: SymbolReader) -> VideoLatent:
        """Read the symbols of one frame."""
        q = torch.tensor([step.point])
        size = (state.format.height // self.stride, state.format.width // self.stride)
        if step.kind is FrameKind.INTRA:
            return self._latent(self.image.decode(size, q, reader), q, state)
        return self._latent(self.entropy.decode(size, q, reader, past=_past(state)), q, state)

    def _latent(self, y_hat: Tensor, q: Tensor, state: VideoState) -> VideoLatent:
        """Return a frame's latent, and what the next frame may know of it: gain taken out in integers."""
        exact = cast(Any, self.image.entropy.context.exact)
        now = exact.normalise(to_fixed(y_hat), q).to(torch.int32)
        return VideoLatent((y_hat,), (now, state.integers[0] if state.integers else now))

    def synthesis(self, latent: VideoLatent, step: FrameStep, state: VideoState) -> tuple[Yuv, VideoState]:
        """Make a frame of its symbols; those before it need not have been made."""
        q = torch.tensor([step.point])
        y_hat = latent.values[0].contiguous(memory_format=torch.channels_last)
        return self._samples(y_hat, q, state.format.matrix), self.skip(latent, state)

    def _samples(self, y_hat: Tensor, q: Tensor, matrix: str) -> Yuv:
        x = self.image.synthesis(self.image.dequantise(y_hat, q), q)
        return rgb_to_yuv(x.clamp(0, 1), matrix)

    def export(self) -> None:
        """Freeze the integer state of both entropy models."""
        self.image.export()
        self.entropy.export()


def load_floats(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Set all floats of a model to those of another of the same architecture.

    Args:
        model: The model.
        state: Floats by name; integers are passed over.

    Raises:
        ValueError: If one is missing, unknown or of another shape.
    """
    own = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    given = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    wrong = sorted(own.keys() ^ given.keys()) or sorted(n for n in own if own[n].shape != given[n].shape)
    if wrong:
        raise ValueError(f"The weights are of a model of other widths: {len(wrong)} tensors differ, as {wrong[0]}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(given[name])


def _past(state: VideoState) -> Tensor:
    """Return the latents of the two frames before, (1, 2 M, h, w) float64 integers in Q13.10."""
    return torch.cat(state.integers, 1).double()


def _stack(bits: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {part: torch.stack([each[part] for each in bits], 1) for part in bits[0]}


@register_model("stem", StemConfig, media="video")
def stem(config: StemConfig) -> Stem:
    """Build :class:`Stem`."""
    return Stem(config)
