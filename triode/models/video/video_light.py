"""``video-light``: low-delay video for two CPU cores, its networks at one low resolution, with or without motion.

As in DCVC-RT (Jia et al., CVPR 2025), planes of YUV 4:2:0 are shuffled to 96 channels at 1/8 of the resolution; the
latent lives at 1/16, its hyper-latent at 1/64. The start is a plain codec: frames are predicted by the frame before,
its blocks moved where motion is coded, and differences go through an orthonormal transform of 16x16 blocks. Networks
beside it start at zero and learn what that cannot. Entropy coding sees integers alone, hyper-latents and the
latents of frames before, never features, so that streams decode to the same symbols everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from triode.container import FrameKind
from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.context.model import ContextModel
from triode.entropy.context.schedule import checkerboard
from triode.entropy.exact.layers import FRACTION_BITS, exact_twin, to_fixed
from triode.entropy.factorized import FactorizedPrior
from triode.entropy.gaussian import INDEX_STEP, SCALE_MIN
from triode.entropy.hyperprior import Hyperprior
from triode.entropy.rate import RATE_POINTS, RateGain
from triode.errors import UnsupportedError
from triode.models.base import FrameStep, VideoLatent, VideoModel, VideoOutput, VideoState, Yuv
from triode.models.image.image_light import ImageLight, QuadtreeParameters
from triode.models.layers.precision import full_precision
from triode.models.registry import register_model
from triode.models.video.block_search import search
from triode.models.video.colour import rgb_to_yuv, yuv_to_rgb
from triode.models.video.light_networks import (
    Context,
    Decoder,
    Encoder,
    HyperAnalysis,
    HyperSynthesis,
    Parameters,
    VideoLightConfig,
)
from triode.models.video.lookahead import heirs
from triode.models.video.shuffle import (
    PLANES,
    blocks_basis,
    centred,
    difference_components,
    join,
    natural,
    shuffle,
    split,
)
from triode.models.video.stem import load_floats
from triode.models.video.vectors import VectorCoder, Vectors, compensate, relative, warp

__all__ = ["Recurrent", "VideoLight", "VideoLightConfig"]


_RANGE: Final = (-0.6, 0.6)
"""What frames hand on stays within what 8 bits hold of limited-range luma, around zero (0.5 is white): what networks
make of samples beyond it could grow from frame to frame without end."""


@dataclass(frozen=True, slots=True, eq=False)
class Recurrent:
    """What one frame of a batch leaves to the next one, in training.

    Attributes:
        frame: Decoded frame, (B, 96, H / 8, W / 8); its planes, centred, where motion is coded.
        feature: (B, C, H / 8, W / 8) features; those of the decoded frame where it begins anew.
        past: (B, 2 M, H / 16, W / 16) what entropy coding knows of the frames before.
        vectors: (B, 2, H / 16, W / 16) int32 motion of the frame, where it is coded.
        index: Number of the frame that comes next.
    """

    frame: tuple[Tensor, ...]
    feature: Tensor
    past: Tensor
    vectors: Tensor
    index: int

    def detach(self) -> Recurrent:
        """Return the same without gradients."""
        frame = tuple(plane.detach() for plane in self.frame)
        return Recurrent(frame, self.feature.detach(), self.past.detach(), self.vectors, self.index)


class VideoLight(VideoModel):
    """See the module's text.

    ``image`` codes the first frame of a group; it has no gradients and stays in evaluation mode. Its distortion is that
    of RGB, while that of all other frames is meant to be ``(6 MSE_Y + MSE_U + MSE_V) / 8``; rates are in bits.

    Args:
        config: Widths.
    """

    rdoq = 6.0
    """Rate-distortion optimised quantisation: price of the distortion against its nominal one; 0 rounds to nearest."""
    lookahead = 1.0
    """How much of its estimate the encoder believes; 0 has the first frame as in training."""
    finest = 32.0
    """Rate points by which the first frame of a group is finer at most."""
    kinds = frozenset(FrameKind)
    config: VideoLightConfig
    stride = 16
    multiple = 16
    frame_bytes = 220

    def __init__(self, config: VideoLightConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or VideoLightConfig()
        if c.image.narrow:
            raise ValueError("Argument `image.narrow` must be False: latents of frames before are Q13.10")
        self.image = ImageLight(c.image).eval().requires_grad_(False)
        q = torch.linspace(0, RATE_POINTS - 1, c.anchors)
        # Half a step's square error is worth its bits: 1.5 values a pixel in place of the three of image-light.
        gain = 75.0 * torch.sqrt(self.image.rate_lambda(q))
        self.encoder, self.context, self.decoder = Encoder(c), Context(c), Decoder(c)
        self.embed = nn.Conv2d(PLANES, c.feature, 1)
        self.gain = RateGain(c.latent, c.anchors, gain)
        self.inverse_gain = RateGain(c.latent, c.anchors, 1 / gain)
        self.decoder_gain = RateGain(c.feature, c.anchors)
        # What export makes of the two above: one entry a rate point, as calls cost more than products here.
        self.gains: tuple[tuple[Tensor, Tensor], ...] = ()
        self.activity = nn.Sequential(nn.Conv2d(c.image.latent, c.latent, 1), nn.ReLU())
        self.activity_exact: nn.Module | None = None
        self.vector_coder = VectorCoder()
        parameters = Parameters(c)
        parameters.normalise = RateGain(c.latent, c.anchors, 1 / gain)
        with torch.no_grad():
            for layer in parameters.output:
                cast(nn.Conv2d, layer).weight.mul_(0.1)
            # Means are scaled by the gain, ladder indices shifted by its logarithm.
            parameters.scale.gain.log_gain[:, : c.latent] = gain.log()[:, None]
            parameters.scale.bias.bias[:, c.latent :] = (gain.log() / INDEX_STEP)[:, None]
        self.entropy = Hyperprior(
            HyperAnalysis(c),
            HyperSynthesis(c),
            FactorizedPrior(c.hyper),
            ContextModel(checkerboard(c.latent), parameters),
            stride=4,
        )
        self.init_linear(*blocks_basis(c.latent))

    @classmethod
    def from_image(cls, image: ImageLight, **changes: Any) -> VideoLight:
        """Build a model whose intra frames are coded by a model of images.

        Args:
            image: The model of images.
            changes: Changes to the default configuration, by field.
        """
        model = cls(VideoLightConfig(image=image.config, **changes))
        model.load_image(image.state_dict())
        return model

    def load_image(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a model of images.

        Args:
            state: Its floats by name; integers are left out.

        Raises:
            ValueError: If they are of a model of other widths.
        """
        load_floats(self.image, state)

    @torch.no_grad()
    def init_linear(self, components: Tensor, deviations: Tensor) -> None:
        """Start the linear path from an orthonormal transform of shuffled differences of frames.

        Args:
            components: (M, 96, 2, 2) orthonormal.
            deviations: (M,) standard deviation along each.
        """
        self.encoder.linear.weight.copy_(components)
        self.encoder.linear.bias.zero_()  # type: ignore[union-attr]
        back = cast(nn.Conv2d, self.decoder.linear[0])
        back.weight.copy_(components.flatten(1).t()[:, :, None, None])
        back.bias.zero_()  # type: ignore[union-attr]
        index = torch.log(deviations.clamp_min(1e-4) * 0.5 / SCALE_MIN) / INDEX_STEP
        for layer in cast(Parameters, self.entropy.context.parameter_net).output:
            cast(nn.Conv2d, layer).bias.copy_(torch.cat([torch.zeros_like(index), index]))  # type: ignore[union-attr]

    def init_from_data(self, clips: Iterable[Sequence[Yuv]]) -> None:
        """Start the linear path from the principal components of differences of neighbouring frames.

        Args:
            clips: Frames in order, batches of any size, sides multiples of 16; read once.
        """
        self.init_linear(*difference_components(clips, self.config.latent))

    def train(self, mode: bool = True) -> VideoLight:
        """Set the mode of all but the model of images."""
        super().train(mode)
        self.image.eval()
        return self

    def trained(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that training changes."""
        return (p for name, p in self.named_parameters() if not name.startswith("image."))

    def rate_lambda(self, q: Tensor) -> Tensor:
        """Return what the model of images does; here it weighs ``(6 MSE_Y + MSE_U + MSE_V) / 8``."""
        return self.image.rate_lambda(q)

    def points(self, q: Tensor, frames: int) -> Tensor:
        """Return the rate points (B, T) of the frames of groups that are asked for at points ``q`` (B,)."""
        offsets = torch.tensor([self._offset(index) for index in range(frames)], device=q.device)
        return (q[:, None] + offsets).clamp(0, RATE_POINTS - 1)

    def _offset(self, index: int) -> int:
        return self.config.layers[index % len(self.config.layers)] if index else self.config.intra

    def step(self, index: int, point: int) -> FrameStep:
        """Return how a frame is coded: quality by layers, features begun anew now and then."""
        later = FrameKind.INTER if index % self.config.refresh else FrameKind.REFRESH
        point = min(max(point + self._offset(index), 0), RATE_POINTS - 1)
        return FrameStep(later if index else FrameKind.INTRA, point)

    def plan(self, count: int, frame: Callable[[int], Yuv], point: int) -> tuple[FrameStep, ...]:
        """Return how a group is coded: its first frame is the finer, the more later ones have of it.

        Where n later frames inherit it, its errors count 1 + n times; ``lookahead`` of that is believed.
        """
        steps = super().plan(count, frame, point)
        if not self.lookahead:
            return steps
        c = self.config.image
        doubling = (RATE_POINTS - 1) / math.log2(c.lambda_max / c.lambda_min)
        finer = self.lookahead * doubling * math.log2(1 + heirs(count, lambda i: centred(frame(i))[0]))
        first = min(point + round(min(finer, self.finest)), RATE_POINTS - 1)
        return (replace(steps[0], point=first), *steps[1:])

    def forward(self, frames: Sequence[Yuv], q: Tensor) -> VideoOutput:
        """Code and decode a batch of groups, differentiably.

        Args:
            frames: The frames in order, of BT.709, sides multiples of 64.
            q: (B,) rate points, from which those of the frames follow (:meth:`points`), or (B, T) of each frame.
        """
        points = (q if q.dim() == 2 else self.points(q, len(frames))).unbind(1)
        made, bits, latent = self.intra(frames[0], points[0])
        state, outputs, counted = self.begin(made, latent), [made], [bits]
        for frame, point in zip(frames[1:], points[1:], strict=True):
            made, bits, state = self.inter(frame, point, state)
            outputs.append(made)
            counted.append(bits)
        return VideoOutput(tuple(outputs), {part: torch.stack([b[part] for b in counted], 1) for part in bits})

    @torch.no_grad()
    def intra(self, frame: Yuv, q: Tensor) -> tuple[Yuv, dict[str, Tensor], Tensor]:
        """Code an intra frame, without gradients: nothing of it changes in training.

        Args:
            frame: Batch of frames of BT.709, sides multiples of 64.
            q: (B,) rate points.

        Returns:
            The frame as decoded, bits (B,) by part, and the latent as :meth:`begin` takes it.
        """
        y = self.image.analysis(yuv_to_rgb(frame, "bt709").clamp(0, 1), q)
        out = self.image.entropy(self.image.scale(y, q), q, side=y)
        normalise = cast(QuadtreeParameters, self.image.entropy.context.parameter_net).normalise
        none = {"motion": torch.zeros_like(out.bits["y"])} if self.config.motion else {}
        return self._image_samples(out.y_hat, q, "bt709"), {**out.bits, **none}, normalise(out.y_hat, q)

    def begin(self, frame: Yuv, latent: Tensor) -> Recurrent:
        """Return what an intra frame leaves to the next one.

        Args:
            frame: The frame as decoded.
            latent: (B, M_image, H / 16, W / 16) latent of the model of images, gain taken out.
        """
        planes, activity = centred(frame), full_precision(self.activity, latent.abs())
        past = torch.cat([torch.zeros_like(activity), activity], 1)
        none = torch.zeros_like(activity[:, :2], dtype=torch.int32)
        kept, feature = self._handed_on(join(*planes), planes, None)
        return Recurrent(kept, feature, past, none, 1)

    def inter(self, frame: Yuv, q: Tensor, state: Recurrent) -> tuple[Yuv, dict[str, Tensor], Recurrent]:
        """Code one more frame, differentiably.

        Args:
            frame: Batch of frames, sides multiples of 64.
            q: (B,) rate points.
            state: What the frame before left.

        Returns:
            The frame as decoded, unclamped, bits (B,) by part, and what it leaves to the next frame.
        """
        x, vectors, shares, bits = shuffle(frame), state.vectors, None, {}
        if self.config.motion:
            vectors = self._search(frame, state.frame[0], vectors, q)
            bits["motion"], shares = self._vector_bits(vectors, state.vectors), relative(vectors)
        prediction, context = self._predict(state.frame, state.feature, shares)
        y = self.encoder(x, prediction, context, q)
        with torch.autocast(x.device.type, enabled=False):
            out = self.entropy(self.gain(y, q), q, side=y, past=state.past)
            latent = self.inverse_gain(out.y_hat, q)
        gain = self.decoder_gain.gain(q)[:, :, None, None]
        made, feature = self.decoder(latent, prediction, context, gain)
        within = made.clamp(*_RANGE)
        kept, feature = self._handed_on(within, split(within), feature if state.index % self.config.refresh else None)
        now = cast(Parameters, self.entropy.context.parameter_net).normalise(out.y_hat, q).detach()
        past = torch.cat([now, 0.5 * (state.past[:, now.shape[1] :] + now.abs())], 1)
        return natural(*split(made)), {**out.bits, **bits}, Recurrent(kept, feature, past, vectors, state.index + 1)

    def _handed_on(
        self, x: Tensor, planes: tuple[Tensor, Tensor], feature: Tensor | None
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return what a decoded frame, shuffled and as planes, leaves: itself, and features, by default new ones."""
        if self.config.refresh == 1:  # Whoever needs features makes them of the frame once it is moved.
            feature = x[:, :0]
        elif feature is None:
            feature = self.embed(x)
        return planes if self.config.motion else (x,), feature

    def _predict(self, frame: tuple[Tensor, ...], feature: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return prediction and context of a frame from what the one before left; vectors are shares of half a side."""
        moved = frame[0] if shares is None else join(*compensate(frame, shares))
        if self.config.refresh == 1:
            feature = self.embed(moved)
        elif shares is not None:
            feature = warp(feature, shares)
        return cast(tuple[Tensor, Tensor], self.context(moved, feature))

    def _search(self, frame: Yuv, luma: Tensor, before: Tensor, q: Tensor) -> Tensor:
        """Return vectors (B, 2, h, w) of a frame, given the luma, around zero, of the one before, and its vectors."""
        # A sum of absolute differences has the price of the square root of that of squared ones.
        price = (self.rate_lambda(q) * 255**2 * 0.75) ** -0.5
        return search(centred(frame)[0], luma.detach().float(), before, price)

    def _vector_bits(self, vectors: Tensor, before: Tensor) -> Tensor:
        """Return the bits (B,) of vectors (B, 2, h, w) given those of the frame before; in training 0.

        Nothing learns from them, and to count them takes a tenth of a step.
        """
        if self.training:
            return torch.zeros(len(vectors), device=vectors.device)
        pairs = zip(vectors.cpu().numpy(), before.cpu().numpy(), strict=True)
        bits = [self.vector_coder.bits(v.astype(np.int64), b.astype(np.int64)) for v, b in pairs]
        return torch.tensor(bits, dtype=torch.float32, device=vectors.device)

    def encode(self, frame: Yuv, step: FrameStep, state: VideoState, writer: SymbolWriter) -> VideoLatent:
        """Write the symbols of one frame."""
        q = torch.tensor([step.point])
        if step.kind is FrameKind.INTRA:
            rgb = yuv_to_rgb(frame, state.format.matrix).clamp(0, 1)
            y = self.image.analysis(rgb.contiguous(memory_format=torch.channels_last), q)
            return self._begin(self.image.encode(y, q, writer), q)
        past, vectors = state.integers[0].double(), None
        if self.config.motion:
            before = state.integers[1]
            vectors = self._search(frame, state.features[0], before, q)
            self.vector_coder.encode(_whole(vectors), _whole(before), writer)
        shares = None if vectors is None else relative(vectors)
        prediction, context = self._predict(state.features[:-1], state.features[-1], shares)
        y = self.encoder(shuffle(frame), prediction, context, q)
        scaled = self.gain(y, q)
        y_hat = self.entropy.encode(scaled, q, writer, side=y, weight=self.error_weight(q), past=past)
        astray = float((y_hat - scaled).abs().max())
        return replace(self._remember(y_hat, q, past, vectors), prepared=(prediction, context), astray=astray)

    def error_weight(self, q: Tensor) -> Tensor | None:
        """Return what a squared error of one unit costs in each channel of y, (M,) bits, at a rate point (1,).

        An error passes through the inverse gain and the linear synthesis; the rest of the synthesis is left out.
        """
        if not self.rdoq:
            return None
        norm = cast(nn.Conv2d, self.decoder.linear[0]).weight.flatten(1).square().sum(0)
        return self.rdoq * self.rate_lambda(q) * 255**2 * 0.75 * self.inverse_gain.gain(q)[0] ** 2 * norm

    def decode(self, step: FrameStep, state: VideoState, reader: SymbolReader) -> VideoLatent:
        """Read the symbols of one frame."""
        q = torch.tensor([step.point])
        size = (state.format.height // self.stride, state.format.width // self.stride)
        if step.kind is FrameKind.INTRA:
            return self._begin(self.image.decode(size, q, reader), q)
        past, vectors = state.integers[0].double(), None
        if self.config.motion:
            field = self.vector_coder.decode(_whole(state.integers[1]), reader)
            vectors = torch.from_numpy(field.astype(np.int32))[None]
        return self._remember(self.entropy.decode(size, q, reader, past=past), q, past, vectors)

    def _begin(self, y_hat: Tensor, q: Tensor) -> VideoLatent:
        """Return an intra frame's latent, and in integers what the next frame may know of it."""
        if self.activity_exact is None:
            raise UnsupportedError("This model has no integer networks yet: export it, or load weights")
        latent = cast(Any, self.image.entropy.context.exact).normalise(to_fixed(y_hat), q)
        activity = self.activity_exact(latent.abs())
        past = torch.cat([torch.zeros_like(activity), activity], 1).to(torch.int32)
        none = torch.zeros_like(past[:, :2])
        return VideoLatent((y_hat,), (past, none) if self.config.motion else (past,))

    def _remember(self, y_hat: Tensor, q: Tensor, past: Tensor, vectors: Tensor | None) -> VideoLatent:
        """Return a frame's latent, and in integers what the next frame may know of it."""
        now = cast(Any, self.entropy.context.exact).normalise(y_hat.double() * (1 << FRACTION_BITS), q)
        activity = torch.div(past[:, now.shape[1] :] + now.abs(), 2, rounding_mode="floor")
        past = torch.cat([now, activity], 1).to(torch.int32)
        if vectors is None:
            return VideoLatent((y_hat,), (past,))
        return VideoLatent((y_hat, relative(vectors)), (past, vectors))

    def synthesis(self, latent: VideoLatent, step: FrameStep, state: VideoState) -> tuple[Yuv, VideoState]:
        """Make a frame of its symbols and of the frame before."""
        after = self.skip(latent, state)
        y_hat = latent.values[0].contiguous(memory_format=torch.channels_last)
        if step.kind is FrameKind.INTRA:
            frame = self._image_samples(y_hat, torch.tensor([step.point]), state.format.matrix)
            planes = centred(frame)
            kept, feature = self._handed_on(join(*planes), planes, None)
            return frame, replace(after, features=(*kept, feature))
        shares = latent.values[1] if self.config.motion else None
        known = latent.prepared or self._predict(state.features[:-1], state.features[-1], shares)
        prediction, context = known
        inverse, gain = self.gains[step.point]
        made, feature = self.decoder(y_hat * inverse, prediction, context, gain)
        made = made.clamp_(*_RANGE)
        planes = split(made)
        kept, feature = self._handed_on(made, planes, None if step.kind is FrameKind.REFRESH else feature)
        return natural(*planes), replace(after, features=(*kept, feature))

    def _image_samples(self, y_hat: Tensor, q: Tensor, matrix: str) -> Yuv:
        x = self.image.synthesis(self.image.dequantise(y_hat, q), q)
        return rgb_to_yuv(x.clamp(0, 1), matrix)

    @torch.no_grad()
    def export(self) -> None:
        """Freeze the integer state of both entropy models."""
        self.image.export()
        self.gains = tuple((self.inverse_gain.at(p), self.decoder_gain.at(p)) for p in range(RATE_POINTS))
        self.entropy.export()
        self.activity_exact = exact_twin(self.activity)
        self.vector_coder.export()


def _whole(vectors: Tensor) -> Vectors:
    """Return vectors (1, 2, h, w) as the coder takes them."""
    return vectors[0].numpy().astype(np.int64)


@register_model("video-light", VideoLightConfig, media="video")
def video_light(config: VideoLightConfig) -> VideoLight:
    """Build :class:`VideoLight`."""
    return VideoLight(config)
