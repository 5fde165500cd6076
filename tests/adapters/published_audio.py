"""HiFi-Codec and ESC as their research code lays them out: its names, its order of computation, nothing of its text."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import weight_norm

from triode.models.layers.audio.window_attention import FrequencyMerge, FrequencySplit, WindowBlock

HIFI_STRIDES, HIFI_KERNELS, RESIDUAL_KERNELS, DILATIONS = (5, 4, 2), (11, 8, 4), (3, 5), (1, 3, 5)


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, kernel: int):
        super().__init__()

        def convs(dilations):
            return nn.ModuleList(
                weight_norm(nn.Conv1d(channels, channels, kernel, dilation=d, padding=(kernel - 1) * d // 2))
                for d in dilations
            )

        self.convs1, self.convs2 = convs(DILATIONS), convs([1] * len(DILATIONS))

    def forward(self, x: Tensor) -> Tensor:
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = second(F.leaky_relu(first(F.leaky_relu(x, 0.1)), 0.1)) + x
        return x


class HifiNetwork(nn.Module):
    """Encoder (``down``) or generator: residual blocks of all rates are in one list, as are the encoder's norms."""

    def __init__(self, down: bool, width: int, dimension: int):
        super().__init__()
        self.down, self.each = down, len(RESIDUAL_KERNELS)
        kernels = RESIDUAL_KERNELS[::-1] if down else RESIDUAL_KERNELS
        shapes = list(zip(HIFI_STRIDES, HIFI_KERNELS, strict=True))
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        if down:
            self.normalize = nn.ModuleList()
            self.conv_pre = weight_norm(nn.Conv1d(1, width, 7, padding=3))
        else:
            self.conv_pre = weight_norm(nn.Conv1d(dimension, width, 7, padding=3))
        for stride, kernel in shapes[::-1] if down else shapes:
            other = 2 * width if down else width // 2
            kind = nn.Conv1d if down else nn.ConvTranspose1d
            self.ups.append(weight_norm(kind(width, other, kernel, stride, padding=(kernel - stride) // 2)))
            width = other
            for taps in kernels:
                self.resblocks.append(ResidualBlock(width, taps))
                if down:
                    self.normalize.append(nn.GroupNorm(max(width // 16, 1), width, eps=1e-6))
        last = nn.Conv1d(width, dimension, 3, padding=1) if down else nn.Conv1d(width, 1, 7, padding=3)
        self.conv_post = last if down else weight_norm(last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_pre(x)
        for i, up in enumerate(self.ups):
            x, total = up(F.leaky_relu(x, 0.1)), 0
            for j in range(i * self.each, (i + 1) * self.each):
                total = total + self.resblocks[j](x)
                if self.down:
                    total = self.normalize[j](total)
            x = total / self.each
        return self.conv_post(F.leaky_relu(x)) if self.down else torch.tanh(self.conv_post(F.leaky_relu(x, 0.1)))


class Book(nn.Module):
    def __init__(self, size: int, dim: int):
        super().__init__()
        self.embedding = nn.Embedding(size, dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        codes = torch.cdist(x, self.embedding.weight).argmin(-1)
        return codes, self.embedding(codes)


class HifiQuantizer(nn.Module):
    def __init__(self, dimension: int, groups: int = 2, size: int = 16):
        super().__init__()
        self.quantizer_modules = nn.ModuleList(Book(size, dimension // groups) for _ in range(groups))
        self.quantizer_modules2 = nn.ModuleList(Book(size, dimension // groups) for _ in range(groups))

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        residual, total, codes = x.transpose(1, 2), 0, []
        for row in (self.quantizer_modules, self.quantizer_modules2):
            found = [book(part) for book, part in zip(row, residual.chunk(len(row), -1), strict=True)]
            values = torch.cat([value for _, value in found], -1)
            codes += [code for code, _ in found]
            residual, total = residual - values, total + values
        return codes, total.transpose(1, 2)


class EscLayer(nn.Module):
    """Blocks and change of resolution of features (B, H * W, C)."""

    def __init__(self, here: int, there: int, heads: int, depth: int, scale: str | None = None):
        super().__init__()
        self.swint_blocks = nn.ModuleList(WindowBlock(here, heads, 4, shifted=i % 2 == 1) for i in range(depth))
        for block in self.swint_blocks:  # A buffer there.
            index = block.attn.relative_position_index
            del block.attn.relative_position_index
            block.attn.register_buffer("relative_position_index", index)
        self.subsample = {"down": FrequencyMerge, "up": FrequencySplit, None: lambda *_: None}[scale](here, there)

    def forward(self, x: Tensor, height: int) -> Tensor:
        x = x.unflatten(1, (height, -1))
        for block in self.swint_blocks:
            x = block(x)
        return (x if self.subsample is None else self.subsample(x)).flatten(1, 2)


class EscSide(nn.Module):
    def __init__(self, widths: tuple[int, ...], heads: tuple[int, ...], depth: int, scale: str):
        super().__init__()
        pairs = zip(widths, widths[1:], heads, strict=False)
        self.blocks = nn.ModuleList(EscLayer(a, b, h, depth, scale) for a, b, h in pairs)


class EscProduct(nn.Module):
    def __init__(self, dim: int, groups: int, size: int, low: int):
        super().__init__()
        dims = [dim // groups] * (groups - 1) + [dim - dim // groups * (groups - 1)]
        self.dims = dims
        self.vqs = nn.ModuleList(Book(size, low) for _ in dims)
        self.down_projs = nn.ModuleList(nn.Linear(d, low, bias=False) for d in dims)
        self.up_projs = nn.ModuleList(nn.Linear(low, d, bias=False) for d in dims)

    def forward(self, x: Tensor, height: int) -> tuple[list[Tensor], Tensor]:
        b, _, c = x.shape
        rows = x.unflatten(1, (height, -1)).permute(0, 2, 3, 1).reshape(b, -1, 2 * c * height)
        codes, values = [], []
        for part, book, down, up in zip(
            rows.split(self.dims, -1), self.vqs, self.down_projs, self.up_projs, strict=True
        ):
            low, entries = F.normalize(down(part), dim=-1), F.normalize(book.embedding.weight, dim=-1)
            codes.append((low @ entries.t()).argmax(-1))
            values.append(up(book.embedding(codes[-1])))
        back = torch.cat(values, -1).reshape(b, -1, c, height).permute(0, 3, 1, 2)
        return codes, back.flatten(1, 2)


class PublishedEsc(nn.Module):
    """From spectra (B, 2, K, T) to codes and spectra, all streams."""

    def __init__(self, widths=(6, 8, 12), heads=(2, 4), depth=2, groups=2, size=16, dims=(4, 3, 2), patches=8):
        super().__init__()
        self.patches = patches
        up, count = widths[::-1], len(widths)
        heights = [patches >> (count - 1), *(patches >> i for i in range(count - 1, 0, -1))]
        self.heights = heights
        self.quantizers = nn.ModuleList(
            EscProduct(2 * height * width, groups, size, dim)
            for height, width, dim in zip(heights, (up[0], *up), dims, strict=False)
        )
        self.encoder, self.decoder = EscSide(widths, heads, depth, "down"), EscSide(up, heads[::-1], depth, "up")
        self.encoder.patch_embed, self.decoder.patch_deembed = nn.Module(), nn.Module()
        self.encoder.patch_embed.proj = nn.Conv2d(2, widths[0], (3, 2), (3, 2))
        self.encoder.patch_embed.norm = nn.LayerNorm(widths[0])
        self.encoder.pre_nn = EscLayer(widths[0], widths[0], heads[0], depth)
        self.decoder.post_nn = EscLayer(widths[0], widths[0], heads[0], depth)
        self.decoder.patch_deembed.de_proj1 = nn.Conv2d(widths[0], 6 * widths[0], 5, padding=2)
        self.decoder.patch_deembed.de_proj2 = nn.Conv2d(widths[0], 2, 3, padding=1)
        for name in ("ft", "ift"):
            setattr(self, name, nn.Module())
            getattr(self, name).register_buffer("window", torch.hann_window(40))

    def forward(self, spectra: Tensor) -> tuple[list[Tensor], Tensor]:
        x = self.encoder.patch_embed.proj(spectra).flatten(2).transpose(1, 2)
        height = self.patches
        x = self.encoder.pre_nn(self.encoder.patch_embed.norm(x), height)
        features = [x]
        for block in self.encoder.blocks:
            x = block(x, height)
            height //= 2
            features.append(x)
        codes, state = self.quantizers[0](features[-1], height)
        for i, block in enumerate(self.decoder.blocks):
            found, values = self.quantizers[i + 1](features[-1 - i] - state, height)
            codes += found
            state = block(state + values, height)
            height *= 2
        y = self.decoder.post_nn(state, height).unflatten(1, (height, -1)).permute(0, 3, 1, 2)
        y = self.decoder.patch_deembed.de_proj1(y).permute(0, 2, 3, 1)
        b, h, w, _ = y.shape
        y = y.reshape(b, h, w, 3, 2, -1).permute(0, 1, 3, 2, 4, 5).reshape(b, 3 * h, 2 * w, -1)
        return codes, self.decoder.patch_deembed.de_proj2(y.permute(0, 3, 1, 2))
