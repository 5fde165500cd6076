"""CompressAI's weights in our models: the same bits, the same reconstruction, the same shapes; bad files refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from literature import Q, counted_bits, make_plausible, picture, total_bits
from safetensors.torch import save_file
from torch import Tensor, nn

from triode.adapters.compressai import from_compressai, load_compressai_checkpoint
from triode.entropy.gaussian import SCALE_MAX
from triode.errors import ModelMismatchError, UnsupportedError
from triode.models.registry import create_model, get_architecture

GROUPS = (2, 2, 4, 8, 8)
NAMES = ("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "elic2022")


@pytest.fixture(scope="module")
def build() -> Callable[..., nn.Module]:
    """Return a function that builds a CompressAI model."""
    pytest.importorskip("compressai")
    from compressai.models import FactorizedPrior, MeanScaleHyperprior, ScaleHyperprior
    from compressai.models.sensetime import Elic2022Official

    classes = dict(zip(NAMES, (FactorizedPrior, ScaleHyperprior, MeanScaleHyperprior, Elic2022Official), strict=True))

    def make(name: str, **config: Any) -> nn.Module:
        return classes[name](**{"N": 16, "M": 24, **({"groups": GROUPS} if name == "elic2022" else {}), **config})

    return make


def _bottleneck(model: nn.Module) -> nn.Module:
    return next(m for m in model.modules() if type(m).__name__ == "EntropyBottleneck")


@torch.no_grad()
def _perturb(model: nn.Module, seed: int) -> nn.Module:
    """Move every parameter, spread the latents, and give the prior medians of its own."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "quantiles" not in name:
            p.add_(torch.randn(p.shape, generator=g) * 0.2 * p.std(correction=0).clamp_min(0.1))
    convolutions = [m for m in model.g_a.modules() if isinstance(m, nn.Conv2d)]
    next(c for c in reversed(convolutions) if c.kernel_size == (5, 5)).weight.mul_(12)
    h_a = next((m for n, m in model.named_modules() if n.endswith("h_a")), None)
    if h_a is not None:
        h_a[-1].weight.mul_(6)
    for name, module in model.named_modules():
        # What gives scales: spread over the ladder's foot (negative, below 0.11) and well above.
        if name.endswith(("h_s.4", "entropy_parameters.4")):
            module.weight.mul_(4)
            module.bias.add_(torch.randn(module.bias.shape, generator=g) + 0.5)
    _bottleneck(model).biases[4].add_(torch.randn(_bottleneck(model).biases[4].shape, generator=g) * 2)
    _bottleneck(model)._update_quantiles()
    return model.eval()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_forward_equals_compressai(build: Callable[..., nn.Module], name: str) -> None:
    torch.manual_seed(11)
    theirs = _perturb(build(name), 12)
    ours = from_compressai(theirs, name)
    x = torch.cat([picture(64, 128, s) for s in range(2)])
    expected, found = theirs(x), ours(x, Q.expand(2))
    assert float(expected["x_hat"].std()) > 1e-3
    torch.testing.assert_close(found.x_hat, expected["x_hat"], rtol=1e-4, atol=1e-4)
    assert found.bits.keys() == expected["likelihoods"].keys()
    for part, likelihood in expected["likelihoods"].items():
        bits = -likelihood.double().log2().flatten(1).sum(1)
        assert bool((bits > 100).all()), "a test of nothing"
        torch.testing.assert_close(found.bits[part].double(), bits, rtol=1e-4, atol=0)
    medians = _bottleneck(theirs).quantiles[:, 0, 1]
    assert float(medians.abs().min()) > 1e-3
    assert torch.equal(ours.entropy.prior.medians, medians)


@torch.no_grad()
def test_scales_at_the_ends_of_the_ladder(build: Callable[..., nn.Module]) -> None:
    theirs = _perturb(build("mbt2018-mean"), 13)
    last = theirs.h_s[-1]
    last.weight.zero_()
    ladder = torch.tensor([-5.0, 0.0, 0.05, 0.109, 0.11, 0.111, 0.2, 1.0, 30.0, 200.0, 255.9, 256.0])
    last.bias.copy_(torch.cat([ladder.repeat(2), torch.linspace(-1, 1, 24)]))
    ours = from_compressai(theirs, "mbt2018-mean")
    x = picture(64, 64)
    expected, found = theirs(x), ours(x, Q)
    assert torch.equal(found.x_hat, expected["x_hat"])
    bits = -expected["likelihoods"]["y"].log2().double()
    assert float(found.bits["y"]) == pytest.approx(float(bits.sum()), rel=1e-5)
    # Beyond the ladder's top we measure what a coder spends: the widest table. CompressAI's forward goes on.
    last.bias[:24] = 10 * SCALE_MAX
    wide = from_compressai(theirs, "mbt2018-mean")(x, Q).bits["y"]
    last.bias[:24] = SCALE_MAX
    assert torch.equal(wide, from_compressai(theirs, "mbt2018-mean")(x, Q).bits["y"])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_imported_weights_make_a_codec(build: Callable[..., nn.Module], name: str) -> None:
    # Plausible weights travel through CompressAI's model and back.
    torch.manual_seed(14)
    changes = {"groups": GROUPS} if name == "elic2022" else {}
    source = make_plausible(create_model(name, N=16, M=24, **changes))
    theirs = build(name)
    _give_back(source, theirs, name)
    model = from_compressai(theirs.state_dict(), name)
    for key, value in source.named_parameters():
        assert torch.equal(model.get_parameter(key), value), key
    model.export()
    assert torch.equal(model.entropy.prior.medians, _bottleneck(theirs).quantiles[:, 0, 1])
    x = picture(128, 192, 3)
    likelihoods = theirs.eval()(x)["likelihoods"]
    bits = sum(float(-v.double().log2().sum()) for v in likelihoods.values())
    assert total_bits(model(x, Q)) == pytest.approx(bits, rel=1e-4)
    assert counted_bits(model, model.analysis(x, Q)) == pytest.approx(bits, rel=0.003)


def _give_back(source: nn.Module, theirs: nn.Module, name: str) -> None:
    """Copy our parameters into a CompressAI model, by its names for them."""
    renamed: dict[str, Tensor] = {}
    for key, value in source.named_parameters():
        key = key.removeprefix("entropy.")
        for ours, other in (("prior.", "entropy_bottleneck."), ("context.parameter_net.", "latent_codec.y.")):
            key = other + key.removeprefix(ours) if key.startswith(ours) else key
        parts = key.split(".")
        if name == "elic2022":
            if parts[2:3] == ["channel_context"]:
                parts[3] = f"y{parts[3]}"
            if parts[2:3] == ["aggregation"]:
                parts[2:4] = ["latent_codec", f"y{parts[3]}", "entropy_parameters"]
            if parts[2:3] == ["spatial_context"]:
                parts[2:4] = ["latent_codec", f"y{parts[3]}", "context_prediction"]
            if parts[0] in ("h_a", "h_s", "entropy_bottleneck"):
                parts = ["latent_codec", "hyper", *parts]
        renamed[".".join(parts)] = value
    state = theirs.state_dict()
    assert renamed.keys() <= state.keys()
    theirs.load_state_dict({**state, **renamed})
    with torch.no_grad():
        _bottleneck(theirs).quantiles[:, 0, 1] = source.entropy.prior.medians


@pytest.mark.parametrize("name", NAMES)
def test_published_widths_have_the_same_shapes(build: Callable[..., nn.Module], name: str) -> None:
    # from_compressai compares every name and shape.
    config = get_architecture(name).config.from_quality(8)
    groups = {"groups": None} if name == "elic2022" else {}
    assert from_compressai(build(name, N=config.N, M=config.M, **groups), name, lmbda=config.lmbda).config == config


@pytest.mark.parametrize("name", NAMES[:3])
def test_qualities_are_those_of_the_zoo(name: str) -> None:
    zoo = pytest.importorskip("compressai.zoo.image").cfgs[name]
    configs = {quality: get_architecture(name).config.from_quality(quality) for quality in zoo}
    assert {quality: (c.N, c.M) for quality, c in configs.items()} == zoo


@pytest.fixture(scope="module")
def state(build: Callable[..., nn.Module]) -> dict[str, Tensor]:
    torch.manual_seed(15)
    return dict(_perturb(build("mbt2018-mean", N=4, M=6), 16).state_dict())


@pytest.mark.parametrize("spelling", ["newest", "list", "numbered", "parallel", "half"])
def test_old_spellings(state: dict[str, Tensor], spelling: str) -> None:
    singular = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}

    def rename(key: str) -> str:
        parts = key.split(".")
        if parts[-2] in singular and spelling == "list":
            return ".".join([*parts[:-2], "_" + parts[-2], parts[-1]])
        if parts[-2] in singular and spelling == "numbered":
            return ".".join([*parts[:-2], singular[parts[-2]] + parts[-1]])
        return f"module.{key}" if spelling == "parallel" else key

    expected = from_compressai(state, "mbt2018-mean").state_dict()
    values = {rename(k): v.half() if spelling == "half" and v.is_floating_point() else v for k, v in state.items()}
    assert spelling in ("newest", "half") or values.keys() != state.keys()
    found = from_compressai(values, "mbt2018-mean").state_dict()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        torch.testing.assert_close(found[key], value, rtol=1e-3 if spelling == "half" else 0, atol=1e-5)


def test_updated_models_load_as_well(build: Callable[..., nn.Module]) -> None:
    theirs = _perturb(build("mbt2018-mean", N=4, M=6), 17)
    before = from_compressai(theirs, "mbt2018-mean").state_dict()
    theirs.update()  # Fills integer tables, which we do not read.
    after = from_compressai(theirs, "mbt2018-mean").state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_lambda(state: dict[str, Tensor]) -> None:
    assert from_compressai(state, "mbt2018-mean", lmbda=0.5).config.lmbda == 0.5
    assert from_compressai(state, "mbt2018-mean").config.lmbda == 0.013


def test_safetensors(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    expected = from_compressai(state, "mbt2018-mean").state_dict()
    found = load_compressai_checkpoint(path, "mbt2018-mean").state_dict()
    assert all(torch.equal(found[k], v) for k, v in expected.items())
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ModelMismatchError, match="no valid safetensors file"):
        load_compressai_checkpoint(cut, "mbt2018-mean")
    with pytest.raises(FileNotFoundError):
        load_compressai_checkpoint(tmp_path / "none.safetensors", "mbt2018-mean")


def test_pickles_are_not_opened(state: dict[str, Tensor], tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = tmp_path / "weights.pth.tar"
    torch.save({**state, "bomb": Bomb()}, path)
    with pytest.raises(UnsupportedError, match="weights_only=True"):
        load_compressai_checkpoint(path, "mbt2018-mean")
    renamed = path.rename(tmp_path / "weights.safetensors")
    with pytest.raises(ModelMismatchError):
        load_compressai_checkpoint(renamed, "mbt2018-mean")
    assert not (tmp_path / "exploded").exists()


def _change(state: dict[str, Tensor], **changes: Any) -> dict[str, Any]:
    changed = {**state, **{k.replace("__", "."): v for k, v in changes.items()}}
    return {k: v for k, v in changed.items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"h_s__0__weight": None}, "1 tensors missing"),
        ({"g_a__0__weight": None}, "has no convolution 'g_a.0.weight'"),
        ({"g_a__6__weight": torch.zeros(3)}, "has no convolution 'g_a.6.weight'"),
        ({"g_a__9__weight": torch.zeros(3)}, "1 too many"),
        ({"h_s__0__weight": torch.zeros(2, 3, 5, 5)}, "must have the shape"),
        ({"g_a__0__weight": torch.zeros(0, 3, 5, 5)}, "no possible"),
        ({"g_a__6__weight": torch.zeros(1, 1, 1, 1).expand(1 << 20, 4, 5, 5)}, "must have the shape"),
        ({"entropy_bottleneck__quantiles": torch.zeros(4, 3)}, "Quantiles must have the shape"),
        ({"h_s__0__bias": torch.full((6,), float("nan"))}, "not finite"),
        ({"h_s__0__bias": torch.zeros(6, dtype=torch.int64)}, "no tensor of floats"),
        ({"h_s__0__bias": "text"}, "no tensor of floats"),
        ({"context_prediction__weight": torch.zeros(3)}, "1 entries like 'context_prediction.weight'"),
    ],
)
def test_weights_that_do_not_fit(state: dict[str, Tensor], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelMismatchError, match=message):
        from_compressai(_change(state, **changes), "mbt2018-mean")


def test_other_architectures_weights(state: dict[str, Tensor]) -> None:
    with pytest.raises(ModelMismatchError, match="do not fit bmshj2018-hyperprior"):
        from_compressai(state, "bmshj2018-hyperprior")
    with pytest.raises(ModelMismatchError, match=r"g_a\.13"):
        from_compressai(state, "elic2022-official")


def test_a_whole_training_checkpoint(state: dict[str, Tensor]) -> None:
    with pytest.raises(ModelMismatchError, match="give its 'state_dict' entry"):
        from_compressai({"epoch": 3, "state_dict": state}, "mbt2018-mean")


def test_unknown_architecture(state: dict[str, Tensor]) -> None:
    with pytest.raises(UnsupportedError, match="mbt2018-mean"):
        from_compressai(state, "mbt2018")
