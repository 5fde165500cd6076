"""Modified discrete cosine analysis and synthesis: as many coefficients as samples, exact at any length, also streamed.

Frames of 2 N samples overlap by half; their aliases cancel (Princen & Bradley, 1986). Computed as a rotation of the
samples around each border of blocks, then a cosine transform (DCT-IV) of each block. Before the first block and after
the last there is nothing to overlap with, so there the rotation is left out: the whole is an orthogonal map of
N * ceil(T / N) samples.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.models.layers.audio.spectra import AnalysisState, Method, SynthesisState, Window, make_window
from triode.models.layers.audio.streaming import StreamModule

__all__ = ["MdctAnalysis", "MdctSynthesis"]


class _CosineTransform(nn.Module):
    """Orthonormal DCT-IV of the last axis, its own inverse: ``sqrt(2/N) sum_n x_n cos(pi/N (n + 1/2) (k + 1/2))``."""

    matrix: Tensor | None
    twiddle: Tensor

    def __init__(self, size: int, method: Method) -> None:
        super().__init__()
        if method not in ("fft", "matmul"):
            raise ValueError(f"Argument `method` must be 'fft' or 'matmul', but got {method!r}")
        turn = -math.pi / size * (torch.arange(size // 2, dtype=torch.float64) + 0.125)
        scale = (2 / size) ** 0.25  # half of the scale before the transform, half after
        pair = torch.stack((turn.cos(), turn.sin()), -1) * scale
        self.register_buffer("twiddle", pair.float(), persistent=False)
        self.register_buffer("matrix", _cosines(size) if method == "matmul" else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.matrix is not None:
            return x @ self.matrix
        twiddle = torch.view_as_complex(self.twiddle)
        packed = torch.complex(x[..., 0::2], x[..., 1::2].flip(-1)) * twiddle
        y = torch.fft.fft(packed) * twiddle
        return torch.stack((y.real, -y.imag.flip(-1)), -1).flatten(-2)


def _cosines(size: int) -> Tensor:
    n = torch.arange(size, dtype=torch.float64) + 0.5
    return (torch.cos(math.pi / size * n[:, None] * n) * math.sqrt(2 / size)).float()


class _Mdct(nn.Module):
    """What both directions share.

    Attributes:
        size: N.
        border: N / 2, the samples on either side of a border of blocks that belong to both.
        left: Zeros before the signal, 0 or N / 2.
        rise: (N,) first half of the window.
    """

    rise: Tensor

    def __init__(self, size: int, window: Window, causal: bool, method: Method) -> None:
        super().__init__()
        if size < 2 or size % 2:
            raise ValueError(f"Argument `size` must be even and positive, but got {size}")
        if window not in ("sine", "kbd"):
            raise ValueError(f"Argument `window` must be 'sine' or 'kbd', but got {window!r}")
        self.size, self.border, self.causal = size, size // 2, causal
        self.left = size // 2 if causal else 0
        self.transform = _CosineTransform(size, method)
        self.register_buffer("rise", make_window(window, 2 * size)[:size].float(), persistent=False)

    @property
    def lookahead(self) -> int:
        """Samples after its block that a frame depends on."""
        return self.border - self.left

    def frames(self, samples: int) -> int:
        """Return how many frames a signal has."""
        return -(-(samples + self.left) // self.size) if samples > 0 else 0

    def samples(self, frames: int) -> int:
        """Return how many samples frames make."""
        return max(frames * self.size - self.left, 0)


class MdctAnalysis(_Mdct, StreamModule[AnalysisState]):
    """Signal (B, C, T) to coefficients (B, C, N, F), in float32 even under autocast.

    Frame i stands for samples i N to i N + N - 1 and takes N / 2 more on either side. Causal, all lies N / 2 samples
    earlier, which takes a frame more for some lengths.

    Args:
        size: Coefficients of a frame N, even.
        window: ``sine`` or ``kbd``.
        causal: See above.
        method: ``fft``, or ``matmul`` where transforms are not to be had (exporters).

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, size: int, *, window: Window = "sine", causal: bool = False, method: Method = "fft") -> None:
        super().__init__(size, window, causal, method)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C, N, ``frames(T)``), T >= 0."""
        y, state = self.step(x, self.stream_state(*x.shape[:2]))
        return torch.cat((y, self.flush(state)), -1)

    def stream_state(self, batch: int = 1, channels: int = 1) -> AnalysisState:
        """Return the state before the first sample; see :meth:`StreamModule.stream_state`."""
        return AnalysisState(self.rise.new_zeros(batch, channels, self.left))

    def step(self, x: Tensor, state: AnalysisState) -> tuple[Tensor, AnalysisState]:
        """Take the next piece (B, C, t); see :meth:`StreamModule.step`."""
        held = torch.cat((state.held, x.to(self.rise.dtype)), -1)
        before = self.border if state.frames else 0  # samples of the block before that are held too
        count = max((held.shape[-1] - before - self.border) // self.size, 0)
        after = AnalysisState(held, state.samples + x.shape[-1], state.frames)
        if count == 0:
            return self._none(held), after
        end = before + count * self.size
        y = self._coefficients(held[..., : end + self.border], state.frames == 0, last=False)
        return y, AnalysisState(held[..., end - self.border :], after.samples, state.frames + count)

    def flush(self, state: AnalysisState) -> Tensor:
        """Return the frames that reach over the end; see :meth:`StreamModule.flush`."""
        count = self.frames(state.samples) - state.frames
        if count == 0:
            return self._none(state.held)
        length = count * self.size + (self.border if state.frames else 0)
        return self._coefficients(F.pad(state.held, (0, length - state.held.shape[-1])), state.frames == 0, last=True)

    def _none(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:2], self.size, 0)

    def _coefficients(self, x: Tensor, first: bool, last: bool) -> Tensor:
        """Transform whole blocks, with half a block before them unless first and half a block after unless last."""
        with torch.autocast(x.device.type, enabled=False):
            # Around a border lie c before and d after: the block before gets -flip(c) - d, the one after c - flip(d).
            around = x[..., self.border if first else 0 : x.shape[-1] - (self.border if last else 0)]
            c, d = around.reshape(*x.shape[:2], around.shape[-1] // self.size, self.size).chunk(2, -1)
            rise_c, rise_d = self.rise.chunk(2)
            fall_c, fall_d = self.rise.flip(0).chunk(2)
            to_next = rise_c * c - (rise_d * d).flip(-1)
            to_last = -(fall_c * c).flip(-1) - fall_d * d
            if first:
                to_next = torch.cat((-x[..., : self.border].flip(-1)[:, :, None], to_next), 2)
            else:
                to_last = to_last[:, :, 1:]
            if last:
                to_last = torch.cat((to_last, -x[..., -self.border :].flip(-1)[:, :, None]), 2)
            else:
                to_next = to_next[:, :, :-1]
            y: Tensor = self.transform(torch.cat((to_last, to_next), -1))
            return y.transpose(-1, -2)


class MdctSynthesis(_Mdct, StreamModule[SynthesisState]):
    """Coefficients (B, C, N, F) to the signal (B, C, T) whose :class:`MdctAnalysis` they are, in float32.

    Args:
        size: As in the analysis, like all other arguments.
        window: See there.
        causal: See there. Once frame i is in, samples up to ``(i + 1) * N - N / 2`` (causal: ``- N``) are complete.
        method: See there.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, size: int, *, window: Window = "sine", causal: bool = False, method: Method = "fft") -> None:
        super().__init__(size, window, causal, method)

    def forward(self, x: Tensor, length: int | None = None) -> Tensor:
        """Map (B, C, N, F) to (B, C, T).

        Args:
            x: Coefficients.
            length: T, at most ``samples(F)``; that by default.

        Raises:
            ValueError: If the length is out of range.
        """
        most = self.samples(x.shape[-1])
        if length is not None and not 0 <= length <= most:
            raise ValueError(f"Argument `length` must be in 0..{most} for {x.shape[-1]} frames, but got {length}")
        y, state = self.step(x, self.stream_state(*x.shape[:2]))
        return torch.cat((y, self.flush(state)), -1)[..., :length]

    def stream_state(self, batch: int = 1, channels: int = 1) -> SynthesisState:
        """Return the state before the first frame; see :meth:`StreamModule.stream_state`."""
        return SynthesisState(self.rise.new_zeros(batch, channels, self.border))

    def step(self, x: Tensor, state: SynthesisState) -> tuple[Tensor, SynthesisState]:
        """Take the next piece (B, C, N, f); see :meth:`StreamModule.step`."""
        count = x.shape[-1]
        if count == 0:
            return self.rise.new_zeros(*x.shape[:2], 0), state
        with torch.autocast(x.device.type, enabled=False):
            folded = self.transform(x.to(self.rise.dtype).transpose(-1, -2))
            to_last, to_next = folded.chunk(2, -1)
            u = torch.cat((state.tail[:, :, None], to_last[:, :, :-1]), 2)
            rise_c, rise_d = self.rise.chunk(2)
            fall_c, fall_d = self.rise.flip(0).chunk(2)
            c = rise_c * to_next - fall_c * u.flip(-1)
            d = -rise_d * to_next.flip(-1) - fall_d * u
            y = torch.cat((c, d), -1).flatten(2)
            if state.frames == 0:  # nothing came before the first block: no rotation, and no samples before it
                y = torch.cat((-to_next[:, :, 0].flip(-1), y[..., self.size :]), -1)[..., self.left :]
        return y, SynthesisState(to_last[:, :, -1], state.frames + count)

    def flush(self, state: SynthesisState) -> Tensor:
        """Return the last half block; see :meth:`StreamModule.flush`."""
        return -state.tail.flip(-1) if state.frames else state.tail[..., :0]
