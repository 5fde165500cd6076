"""Weights of HiFi-Codec, Language-Codec and ESC in our models: the same codes and signals; bad state dicts refused."""

from __future__ import annotations

import re

import pytest
import torch
from adapters.published_audio import HifiNetwork, HifiQuantizer, PublishedEsc
from models.tiny_audio import tone
from models.tiny_vq import tiny_vq
from torch import nn

from triode.adapters.audio_research import from_esc, from_hifi_codec, from_language_codec
from triode.entropy.vq.codebook import Codebook
from triode.errors import ModelMismatchError

ESC_CHANGES = {"sample_rate": 8000, "spectrum_window": 40, "spectrum_hop": 10}


def varied(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def sound(samples: int) -> torch.Tensor:
    return torch.from_numpy(tone(samples))[None, None]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
class TestHifiCodec:
    @staticmethod
    def parts() -> tuple[nn.Module, nn.Module, nn.Module]:
        torch.manual_seed(0)
        return varied(HifiNetwork(True, 4, 12)), varied(HifiQuantizer(12)), varied(HifiNetwork(False, 16, 12))

    def test_gives_what_the_published_one_gives(self):
        encoder, quantizer, generator = self.parts()
        model = from_hifi_codec(
            {f"module.{k}": v for k, v in encoder.state_dict().items()},
            quantizer.state_dict(),
            generator.state_dict(),
            sample_rate=8000,
        )
        c = model.config
        assert (c.filters, c.dimension, c.channels, c.groups, c.depth, c.codebook_size) == (4, 12, 16, 2, 2, 16)
        assert (c.strides, c.kernels, c.residual_kernels) == ((5, 4, 2), (11, 8, 4), (3, 5))
        x = sound(40 * 30)
        with torch.no_grad():
            features = encoder(x)
            codes, values = quantizer(features)
            assert torch.allclose(model.features(x), features, atol=1e-5)
            found = model.quantizer.encode(features)
            assert all(torch.equal(a, b) for a, b in zip(found, codes, strict=True))
            assert torch.allclose(model.sound(model.quantizer.decode(found)), generator(values), atol=1e-5)
        assert all(book.started for book in model.modules() if isinstance(book, Codebook))

    def test_refuses_others(self):
        encoder, quantizer, generator = (part.state_dict() for part in self.parts())
        with pytest.raises(ModelMismatchError, match="lack layers"):
            from_hifi_codec(encoder, quantizer, {}, sample_rate=8000)
        with pytest.raises(ModelMismatchError, match=r"1 entries like 'decoder\.extra'"):
            from_hifi_codec(encoder, quantizer, {**generator, "extra": torch.ones(1)}, sample_rate=8000)
        del encoder["conv_post.weight"]
        with pytest.raises(ModelMismatchError, match="lacks encoder"):
            from_hifi_codec(encoder, quantizer, generator, sample_rate=8000)


class TestLanguageCodec:
    SPELLING = (
        (r"encoder\.(.+)\.parametrizations\.weight\.original0", r"feature_extractor.encodec.encoder.\1.weight_g"),
        (r"encoder\.(.+)\.parametrizations\.weight\.original1", r"feature_extractor.encodec.encoder.\1.weight_v"),
        (r"encoder\.(.+)", r"feature_extractor.encodec.encoder.\1"),
        (
            r"quantizer\.quantizers\.(\d+)\.codebook\.entries",
            r"feature_extractor.encodec.quantizer.vq.layers.\1._codebook.embed",
        ),
        (
            r"quantizer\.quantizers\.(\d+)\.codebook\.usage",
            r"feature_extractor.encodec.quantizer.vq.layers.\1._codebook.cluster_size",
        ),
        (r"decoder\.(backbone\.norm|backbone\.convnext\.\d+\.norm)\.weight", r"\1.scale.weight"),
        (r"decoder\.(backbone\.norm|backbone\.convnext\.\d+\.norm)\.bias", r"\1.shift.weight"),
        (r"decoder\.(.+)", r"\1"),
    )

    def foreign(self):
        """Return one of our models, and its state dict as a checkpoint of Language-Codec would spell it."""
        model, state = varied(tiny_vq("language-codec", warmup=24)), {}
        for key, value in model.state_dict().items():
            if key.startswith("prior.") or key.endswith(".steps"):
                continue
            pattern, target = next(pair for pair in self.SPELLING if re.fullmatch(pair[0], key))
            name = re.sub(pattern, target, key)
            table = name.endswith((".scale.weight", ".shift.weight"))
            state[name] = torch.stack([value + i for i in range(4)]) if table else value.clone()
            if name.endswith("embed"):
                state[f"{name}_avg"], state[name.replace("embed", "inited")] = value.clone(), torch.ones(1)
        more = ("feature_extractor.encodec.decoder.model.0.conv.conv.weight_g", "head.istft.window", "dac.layer.weight")
        return model, state | {name: torch.ones(3) for name in more}

    def test_returns_where_it_came_from(self):
        model, state = self.foreign()
        found = from_language_codec(state, sample_rate=8000)
        assert found.config == model.config
        x = sound(40 * 32)
        with torch.no_grad():
            assert torch.equal(found.quantised(x).x_hat, model.quantised(x).x_hat)

    def test_takes_the_norms_of_a_condition(self):
        model, state = self.foreign()
        found = from_language_codec(state, sample_rate=8000, condition=3)
        assert torch.equal(found.decoder.backbone.norm.weight, model.decoder.backbone.norm.weight + 3)
        assert torch.equal(
            found.decoder.backbone.convnext[1].norm.bias, model.decoder.backbone.convnext[1].norm.bias + 3
        )
        assert torch.equal(found.decoder.backbone.final_layer_norm.bias, model.decoder.backbone.final_layer_norm.bias)
        with pytest.raises(ValueError, match=r"`condition` must be in 0\.\.3, but got 4"):
            from_language_codec(state, condition=4)

    def test_refuses_others(self):
        _, state = self.foreign()
        with pytest.raises(ModelMismatchError, match="lacks layers"):
            from_language_codec({k: v for k, v in state.items() if not k.startswith("backbone")})
        with pytest.raises(ModelMismatchError, match="must have the shape"):
            from_language_codec(state | {"head.out.bias": torch.ones(7)})
        with pytest.raises(ModelMismatchError, match=r"entries like 'feature_extractor\.more'"):
            from_language_codec(state | {"feature_extractor.more": torch.ones(7)})


class TestEsc:
    @pytest.mark.parametrize("depth", [2, 4])
    def test_gives_what_the_published_one_gives(self, depth):
        torch.manual_seed(0)
        published = varied(PublishedEsc(depth=depth))
        model = from_esc(published.state_dict(), **ESC_CHANGES)
        c = model.config
        assert (c.n_fft, c.patch, c.widths, c.heads, c.depth, c.window) == (46, (3, 2), (6, 8, 12), (2, 4), depth, 4)
        assert (c.ratio, c.groups, c.codebook_size, c.codebook_dims) == (4.0, 2, 16, (4, 3, 2))
        x = sound(40 * 24)
        with torch.no_grad():
            codes, spectra = published(model.encoder.spectra(x)[:, 0])
            found = model.codes(x)
            assert all(torch.equal(a, b) for a, b in zip(found, codes, strict=True))
            y = model.sound(model.quantizer.decode(found))
            assert torch.allclose(y, model.decoder.spectra(spectra[:, None]), atol=1e-4)

    def test_refuses_others(self):
        state = PublishedEsc().state_dict()
        with pytest.raises(ModelMismatchError, match="lacks layers"):
            from_esc({})
        with pytest.raises(ModelMismatchError, match=r"entries like 'generator\.weight'"):
            from_esc({**state, "generator.weight": torch.ones(1)})
        with pytest.raises(ModelMismatchError, match="missing"):
            from_esc({k: v for k, v in state.items() if "up_projs.0" not in k}, **ESC_CHANGES)
