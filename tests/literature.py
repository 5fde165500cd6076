"""What the tests of the literature's image models share: plausible weights, pictures, and the checks themselves."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.entropy.factorized import FactorizedPrior
from triode.models.base import ImageModel, Output
from triode.models.registry import create_model
from triode.models.weights.files import load_weights, save_weights

Q = torch.zeros(1, dtype=torch.long)


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Make pixels (1, 3, H, W) in [0, 1] with structure at several sizes."""
    g = torch.Generator().manual_seed(seed)
    x = torch.zeros(1, 3, height, width)
    for size in (4, 16, 64):
        low = torch.randn(1, 3, height // size + 1, width // size + 1, generator=g)
        x += nn.functional.interpolate(low, (height, width), mode="bilinear") * size**0.5
    x += 0.2 * torch.randn(x.shape, generator=g)
    return (0.5 + 0.12 * x).clamp(0, 1)


def _output_layers(model: ImageModel) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    """Return the layers whose outputs are scales, or scales and means."""
    net = model.entropy.context.parameter_net
    if hasattr(net, "aggregation"):
        return [ramp[-1] for ramp in net.aggregation]
    return [[m for m in model.entropy.h_s if not isinstance(m, nn.ReLU)][-1]]


def _watch(layer: nn.Module, model: nn.Module, x: Tensor) -> Tensor:
    """Return what a layer gives when the model sees x."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda *a: seen.append(a[2].detach()))
    model(x, torch.zeros(len(x)))
    handle.remove()
    return torch.cat(seen)


def _normalise(layer: nn.Conv2d, model: nn.Module, x: Tensor, mean: Tensor, deviation: Tensor) -> None:
    """Scale a layer, channel by channel, so that its outputs have the given means and deviations."""
    out = _watch(layer, model, x)
    found, spread = out.mean((0, 2, 3)), out.std((0, 2, 3)).clamp_min(1e-4)
    factor = (deviation / spread).view(-1, *([1] * 3))
    transposed = isinstance(layer, nn.ConvTranspose2d)
    layer.weight.mul_(factor.transpose(0, 1) if transposed else factor)
    layer.bias.copy_((layer.bias - found) * (deviation / spread) + mean)


@torch.no_grad()
def make_plausible(model: ImageModel, seed: int = 0) -> ImageModel:
    """Give a model of random weights what training gives: scales that fit the latents, medians, dead channels.

    Every parameter is perturbed first, so that nothing is zero, one or the same in all channels.
    """
    g = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.add_(torch.randn(p.shape, generator=g) * 0.1 * p.std(correction=0).clamp_min(0.05))
    model.eval()
    x = torch.cat([picture(192, 256, s) for s in range(2)])
    latent = [m for m in model.g_a if isinstance(m, nn.Conv2d)][-1]
    m, dead = latent.out_channels, latent.out_channels // 4
    # A few strong channels, many weak ones, and some that are always zero, as trained latents have.
    deviation = torch.exp(torch.linspace(math.log(8.0), math.log(0.5), m))
    deviation[-dead:] = 0.02
    _normalise(latent, model, x, (0.3 * torch.randn(m, generator=g)) * (deviation > 0.1), deviation)
    prior: FactorizedPrior = model.entropy.prior
    prior.biases[-1].add_(torch.randn(prior.biases[-1].shape, generator=g))
    if hasattr(model.entropy, "h_a"):
        last = [c for c in model.entropy.h_a if isinstance(c, nn.Conv2d)][-1]
        n = last.out_channels
        _normalise(last, model, x, torch.randn(n, generator=g), torch.exp(torch.randn(n, generator=g)) * 2)
        y = model.analysis(x, Q)
        start = 0
        for layer in _output_layers(model):
            # Scales, then means; bmshj2018-hyperprior has no means.
            has_means = getattr(model.entropy.context.parameter_net, "means", True)
            size = layer.out_channels // (1 + has_means)
            own = y[:, start : start + size]
            scale, centre = own.square().mean((0, 2, 3)).sqrt(), own.mean((0, 2, 3))
            target = torch.cat([scale, centre]) if has_means else scale
            _normalise(layer, model, x, target, torch.cat([0.1 * scale] * (1 + has_means)))
            start += size
    prior.medians.zero_()
    prior.update_medians()
    return model


def total_bits(out: Output) -> float:
    """Add up the bits of all parts and samples."""
    return float(sum(b.sum() for b in out.bits.values()))


@torch.no_grad()
def counted_bits(model: ImageModel, y: Tensor) -> float:
    """Return the ideal code length of a latent under the exported model."""
    counter = CountingWriter()
    model.encode(y, Q, counter)
    return counter.bits


@torch.no_grad()
def check_round_trip(model: ImageModel, size: tuple[int, int]) -> None:
    """Code a latent of any size to bytes and back."""
    y = model.analysis(picture(size[0] * 16, size[1] * 16, 5), Q)
    assert y.shape[2:] == size
    writer = RangeWriter()
    y_hat = model.encode(y, Q, writer)
    reader = RangeReader(writer.getvalue())
    decoded = model.decode(size, Q, reader)
    reader.check(writer.crc)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, y_hat)
    # Quantised around something within one half; elements at the ladder's foot are not coded, hence the mean.
    assert float((y - y_hat).abs().mean()) < 0.5


@torch.no_grad()
def check_rates(model: ImageModel) -> None:
    """Compare forward's estimate with the exported model's code length and with real bytes."""
    x = picture(192, 256, 9)
    y = model.analysis(x, Q)
    estimate = total_bits(model(x, Q))
    counted = counted_bits(model, y)
    assert estimate > 4000
    assert abs(counted / estimate - 1) <= 0.003, f"integers cost {counted / estimate - 1:+.3%}"
    writer = RangeWriter()
    y_hat = model.encode(y, Q, writer)
    assert len(writer.getvalue()) <= estimate / 8 * 1.01 + 64
    assert len(writer.getvalue()) >= estimate / 8 * 0.99 - 64
    # What is decoded gives the picture of the float model, but for rounding in the last place of Q13.10.
    error = (model.synthesis(y_hat, Q) - model(x, Q).x_hat).square().mean().sqrt()
    assert float(error) < 0.05 * float(model(x, Q).x_hat.std())


@torch.no_grad()
def check_weights_file(model: ImageModel, architecture: str, folder: Path) -> None:
    """Write a model and read it: the same configuration, and each side decodes what the other wrote."""
    path = folder / "small.v1.safetensors"
    save_weights(model, path, name="small.v1", architecture=architecture)
    loaded = load_weights(str(path)).model
    assert loaded.config == model.config
    y = model.analysis(picture(64, 64, 4), Q)
    for one, other in ((model, loaded), (loaded, model)):
        writer = RangeWriter()
        y_hat = one.encode(y, Q, writer)
        assert torch.equal(other.decode((4, 4), Q, RangeReader(writer.getvalue())), y_hat)


@torch.no_grad()
def check_halos(model: ImageModel) -> None:
    """Change everything beyond the halos: a tile's latent and a tile's pixels stay as they are."""
    s = model.stride
    reach, size = model.analysis_halo // s, 3
    side = -(-(2 * reach + size + 2) * s // model.multiple) * model.multiple
    g = torch.Generator().manual_seed(8)
    x = torch.rand(1, 3, side, side, generator=g)
    start = (reach + 1) * s
    inside = torch.zeros(side, dtype=torch.bool)
    inside[start - model.analysis_halo : start + size * s + model.analysis_halo] = True
    keep = inside[:, None] & inside
    assert not bool(keep.all())
    changed = torch.where(keep, x, 4 * torch.rand(x.shape, generator=g))
    tile = slice(reach + 1, reach + 1 + size)
    before, after = model.analysis(x, Q)[:, :, tile, tile], model.analysis(changed, Q)[:, :, tile, tile]
    assert torch.equal(before, after)

    reach = model.synthesis_halo
    y = torch.randn(1, model.config.M, 2 * reach + size + 2, 2 * reach + size + 2, generator=g)
    inside = torch.zeros(y.shape[2], dtype=torch.bool)
    inside[1 : 1 + 2 * reach + size] = True
    changed = torch.where(inside[:, None] & inside, y, 4 * torch.randn(y.shape, generator=g))
    pixels = slice((1 + reach) * s, (1 + reach + size) * s)
    before, after = model.synthesis(y, Q)[..., pixels, pixels], model.synthesis(changed, Q)[..., pixels, pixels]
    assert torch.equal(before, after)
    # And one latent less would not do.
    changed = y.clone()
    changed[:, :, -2] += 4
    assert not torch.equal(before, model.synthesis(changed, Q)[..., pixels, pixels])


@torch.no_grad()
def check_crop(model: ImageModel) -> None:
    """Analyse a tile with its halo alone, as the codec does: the same latent as from the whole picture."""
    halo, s = model.analysis_halo, model.stride
    x = picture(halo + 2 * model.multiple, halo + 2 * model.multiple, 3)
    whole = model.analysis(x, Q)
    crop = model.analysis(x[:, :, model.multiple :, : halo + model.multiple], Q)
    top = (model.multiple + halo) // s
    expected = whole[:, :, top:, : model.multiple // s]
    torch.testing.assert_close(crop[:, :, halo // s :, : model.multiple // s], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def main() -> None:
    """Print what integers and the ladder cost at published widths: code length over forward's estimate."""
    for name in ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "elic2022"):
        torch.manual_seed(1)
        model = make_plausible(create_model(name))
        model.export()
        x = picture(256, 256, 9)
        estimate, counted = total_bits(model(x, Q)), counted_bits(model, model.analysis(x, Q))
        print(f"{name:22} estimate {estimate:9.0f} bits  exported {counted:9.0f} bits  {counted / estimate - 1:+.4%}")


if __name__ == "__main__":
    main()
