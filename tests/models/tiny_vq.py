"""Tiny codecs with vector quantisers, whose codes vary; for tests of what they share and of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from triode.models.audio.dac import Dac, DacConfig
from triode.models.audio.encodec import Encodec, EncodecConfig
from triode.models.audio.esc import Esc, EscConfig
from triode.models.audio.hifi_codec import HifiCodec, HifiCodecConfig
from triode.models.audio.language_codec import LanguageCodec, LanguageCodecConfig
from triode.models.audio.snac import Snac, SnacConfig
from triode.models.audio.vq_codec import VqCodec

RATE = 8000
CONFIGS: dict[str, Any] = {
    "encodec": EncodecConfig(
        sample_rate=RATE, dimension=8, filters=4, strides=(2, 4, 5), lstm=1, stages=4, codebook_size=16, warmup=16
    ),
    "dac": DacConfig(
        sample_rate=RATE, encoder=4, strides=(2, 4, 5), decoder=32, stages=3, codebook_size=24, codebook_dim=4
    ),
    "snac": SnacConfig(
        sample_rate=RATE,
        encoder=4,
        strides=(2, 4, 5),
        decoder=32,
        window=8,
        head=4,
        vq_strides=(4, 2, 1),
        codebook_size=20,
        codebook_dim=4,
    ),
    "hifi-codec": HifiCodecConfig(
        sample_rate=RATE,
        filters=4,
        dimension=12,
        channels=16,
        strides=(5, 4, 2),
        kernels=(11, 8, 4),
        residual_kernels=(3, 5),
        dilations=(1, 2),
        codebook_size=16,
    ),
    "language-codec": LanguageCodecConfig(
        sample_rate=RATE,
        dimension=9,
        filters=4,
        strides=(2, 4, 5),
        lstm=1,
        stages=5,
        codebook_size=16,
        decoder=12,
        decoder_hidden=20,
        decoder_blocks=2,
        warmup=16,
    ),
    "esc": EscConfig(
        sample_rate=RATE,
        n_fft=46,
        spectrum_window=40,
        spectrum_hop=10,
        widths=(6, 8, 12),
        heads=(2, 4),
        groups=2,
        codebook_size=16,
        codebook_dims=(4, 3, 2),
    ),
}
CLASSES = {
    "encodec": Encodec,
    "dac": Dac,
    "snac": Snac,
    "hifi-codec": HifiCodec,
    "language-codec": LanguageCodec,
    "esc": Esc,
}


def tiny_vq(name: str, seed: int = 0, **changes: Any) -> VqCodec:
    """Build a codec in evaluation mode, not exported, with features and codebooks of some variance.

    Args:
        name: Architecture.
        seed: Of the weights.
        changes: Changes to its configuration.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLASSES[name](replace(CONFIGS[name], **changes)).eval()
        with torch.no_grad():
            for key, tensor in (*model.encoder.named_parameters(), *model.decoder.named_parameters()):
                if key.endswith("original0"):
                    tensor.fill_(1.0)  # Lengths of the filters; their directions are random.
                elif key.endswith("bias"):
                    tensor.normal_(0, 0.1)
                elif key.endswith("alpha"):
                    tensor.uniform_(0.5, 2)
            for module in model.quantizer.modules():
                entries = getattr(module, "entries", None)
                if isinstance(entries, torch.Tensor):
                    entries.normal_(0, 0.5)
    return model
