import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from triode.train.discriminators import (
    DiscriminatorGroup,
    MultiBandDiscriminator,
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    MultiScaleStftDiscriminator,
    Verdict,
    feature_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    square_discriminator_loss,
    square_generator_loss,
)

BUILD = {
    "period": lambda c=1: MultiPeriodDiscriminator(c, (2, 3, 5), width=2),
    "resolution": lambda c=1: MultiResolutionDiscriminator(c, ((128, 30, 64), (64, 16, 32)), width=3),
    "stft": lambda c=1: MultiScaleStftDiscriminator(c, (128, 64), width=3),
    "band": lambda c=1: MultiBandDiscriminator(c, (256, 128), width=3),
}
# Judges, and activations of each.
SHAPES = {"period": (3, 5), "resolution": (2, 5), "stft": (2, 5), "band": (2, 25)}


@pytest.mark.parametrize("kind", BUILD)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("samples", [257, 600])
def test_verdict(kind, channels, samples):
    verdict = BUILD[kind](channels)(torch.randn(3, channels, samples))
    judges, layers = SHAPES[kind]
    assert len(verdict.logits) == len(verdict.features) == judges
    assert all(logits.shape[:2] == (3, 1) for logits in verdict.logits)
    assert [len(features) for features in verdict.features] == [layers] * judges
    assert all(len(y) == 3 and y.isfinite().all() for features in verdict.features for y in features)


@pytest.mark.parametrize("kind", BUILD)
def test_signals_of_a_batch_are_judged_alone(kind):
    torch.manual_seed(0)
    net, x = BUILD[kind](), torch.randn(3, 1, 400)
    together, alone = net(x), net(x[1:2])
    for a, b in zip(together.logits, alone.logits, strict=True):
        assert torch.allclose(a[1:2], b, atol=1e-5)


@pytest.mark.parametrize("kind", BUILD)
def test_learns_to_tell_noise_from_tones(kind):
    torch.manual_seed(0)
    net = BUILD[kind]()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    tone = torch.sin(torch.arange(400) * torch.rand(2, 1, 1)) + 0.01 * torch.randn(2, 1, 400)
    noise = torch.randn(2, 1, 400) * 0.7
    losses = []
    for _ in range(12):
        loss = hinge_discriminator_loss(net(tone), net(noise))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None for p in net.parameters())
    assert losses[0] == pytest.approx(2, abs=0.5)
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize("kind", BUILD)
def test_gradients_reach_the_signal(kind):
    x = torch.randn(1, 1, 400, requires_grad=True)
    hinge_generator_loss(BUILD[kind]()(x)).backward()
    assert float((x.grad.abs() > 0).float().mean()) > 0.9


@pytest.mark.parametrize(("kind", "least"), [("period", 5), ("resolution", 50), ("stft", 128), ("band", 97)])
def test_shortest_signals(kind, least):
    net = BUILD[kind]()
    if kind != "band":  # it fills up the last hop first
        assert len(net(torch.randn(1, 1, least)).logits) == SHAPES[kind][0]
    assert len(net(torch.randn(1, 1, 128)).logits) == SHAPES[kind][0]
    with pytest.raises(ValueError, match="Signals must have at least"):
        net(torch.randn(1, 1, 64 if kind == "band" else least - 1))


def test_periods_are_columns():
    """A change of one sample reaches, in the first layer, only its column."""
    torch.manual_seed(0)
    net = MultiPeriodDiscriminator(1, (5,), width=4)
    x = torch.randn(1, 1, 203)
    other = x.clone()
    other[..., 52] += 1
    a, b = (net(v).features[0][0] for v in (x, other))
    assert a.shape == (1, 4, 14, 5)  # 41 rows, every third
    columns = (a - b).abs().amax((0, 1, 2)) > 0
    assert columns.tolist() == [False, False, True, False, False]
    shapes = [y.shape[1:3] for y in net(x).features[0]]
    assert shapes == [(4, 14), (16, 5), (64, 2), (128, 1), (128, 1)]
    rows = [y.shape[2] for y in net(torch.randn(1, 1, 243 * 5)).features[0]]
    assert rows == [81, 27, 9, 3, 3]


def first_input(net):
    """Return what the judges' first layers are given."""
    seen = []
    for judge in net.judges:
        convs = judge.bands[0].convs if hasattr(judge, "bands") else judge.convs
        convs[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen


def test_what_multi_scale_judges_see():
    net = MultiScaleStftDiscriminator(2, (64,), width=2)
    seen, x = first_input(net), torch.randn(3, 2, 200)
    net(x)
    window = torch.hann_window(64)
    spectra = torch.stft(x.flatten(0, 1), 64, 16, window=window, center=False, return_complex=True)
    spectra = spectra.reshape(3, 2, 33, -1) / window.square().sum().sqrt()
    expected = torch.cat((spectra.real, spectra.imag), 1).transpose(2, 3)
    assert torch.allclose(seen[0], expected, atol=1e-5)


def test_what_multi_resolution_judges_see():
    net = MultiResolutionDiscriminator(1, ((64, 12, 40),), width=2)
    seen, x = first_input(net), torch.randn(2, 1, 200)
    net(x)
    padded = F.pad(x, (26, 26), "reflect")[:, 0]
    window = F.pad(torch.hann_window(40), (12, 12))
    spectra = torch.stft(padded, 64, 12, window=window, center=False, return_complex=True).abs()
    assert torch.allclose(seen[0], spectra[:, None], atol=1e-4)


def test_what_band_judges_see():
    net = MultiBandDiscriminator(1, (64,), (0.0, 0.25, 1.0), width=2)
    seen, x = first_input(net), torch.randn(2, 1, 201)
    verdict = net(x)
    padded = F.pad(F.pad(x, (0, 7)), (24, 24), "reflect")[:, 0]
    spectra = torch.stft(padded, 64, 16, window=torch.hann_window(64), center=False, return_complex=True)
    expected = torch.stack((spectra.real, spectra.imag), 1).transpose(2, 3)
    assert seen[0].shape == (2, 2, 13, 8)  # ceil(201 / 16) frames, a quarter of 33 bins
    assert torch.allclose(seen[0], expected[..., :8], atol=1e-4)
    assert verdict.logits[0].shape[-1] == 1 + 4  # 8 and 25 bins, halved three times


# Kernel, stride and dilation of the layers, the last of which gives the logits, and the slope of the leaky ReLUs.
COLUMNS = [((5, 1), (3, 1), (1, 1))] * 4 + [((5, 1), (1, 1), (1, 1)), ((3, 1), (1, 1), (1, 1))]
SQUARE = ((3, 3), (1, 1), (1, 1))
HALVING = [((3, 9), (1, 2), (1, 1))] * 3
DILATED = [((3, 9), (1, 2), (dilation, 1)) for dilation in (1, 2, 4)]
FIRST = ((3, 9), (1, 1), (1, 1))


@pytest.mark.parametrize(
    ("kind", "layers", "slope"),
    [
        ("period", COLUMNS, 0.1),
        ("resolution", [FIRST, *HALVING, SQUARE, SQUARE], 0.2),
        ("stft", [FIRST, *DILATED, SQUARE, SQUARE], 0.2),
    ],
)
def test_layers_of_a_judge(kind, layers, slope):
    torch.manual_seed(0)
    net = BUILD[kind]()
    seen = first_input(net)
    verdict = net(torch.randn(2, 1, 400))
    for judge, y, features, logits in zip(net.judges, seen, verdict.features, verdict.logits, strict=True):
        *convs, last = [*judge.convs, judge.conv_post]
        for conv, shape, feature in zip(convs, layers[:-1], features, strict=True):
            y = convolved(y, conv, *shape)
            y = torch.where(y > 0, y, slope * y)
            assert torch.allclose(y, feature, atol=1e-5)
        assert torch.allclose(convolved(y, last, *layers[-1]), logits, atol=1e-5)


def test_layers_of_a_band_judge():
    torch.manual_seed(0)
    net = MultiBandDiscriminator(1, (64,), (0.0, 0.25, 1.0), width=2)
    (judge,), seen = net.judges, []
    for band in judge.bands:
        band.convs[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    verdict = net(torch.randn(2, 1, 400))
    expected, ends = [], []
    for y, band in zip(seen, judge.bands, strict=True):
        for conv, shape in zip([*band.convs, band.conv_post], [FIRST, *HALVING, SQUARE], strict=True):
            y = convolved(y, conv, *shape)
            y = torch.where(y > 0, y, 0.1 * y)
            expected.append(y)
        ends.append(y)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, verdict.features[0], strict=True))
    logits = convolved(torch.cat(ends, 3), judge.conv_post, *SQUARE)
    assert torch.allclose(logits, verdict.logits[0], atol=1e-5)


def convolved(x, conv, kernel, stride, dilation):
    assert conv.weight.shape[2:] == kernel
    padding = [(k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True)]
    return F.conv2d(x, conv.weight, conv.bias, stride, padding, dilation)


def test_group_levels_signals():
    torch.manual_seed(0)
    net = DiscriminatorGroup([BUILD["period"](), BUILD["band"]()])
    x = torch.randn(2, 1, 400)
    a, b = net(x), net(0.01 * x + 0.5)
    assert len(a.logits) == len(a.features) == 5
    assert all(torch.allclose(y, z, atol=1e-3) for y, z in zip(a.logits, b.logits, strict=True))
    seen = []
    net.parts[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(x)
    assert torch.allclose(seen[0].abs().amax(-1), torch.tensor(0.8))
    assert torch.allclose(net(torch.zeros(1, 1, 400)).logits[0], net(torch.ones(1, 1, 400)).logits[0])
    plain = DiscriminatorGroup([BUILD["period"]()], level=False)
    assert torch.equal(plain(x).logits[0], plain.parts[0](x).logits[0])


def verdict(logits, features=()):
    return Verdict(
        tuple(torch.tensor(v) for v in logits), tuple(tuple(torch.tensor(y) for y in judge) for judge in features)
    )


def test_losses_by_hand():
    real, fake = verdict([[2.0, 0.5], [1.0]]), verdict([[-2.0, 0.0], [0.5]])
    assert hinge_discriminator_loss(real, fake).item() == pytest.approx((0.25 + 0.5 + 0 + 1.5) / 2)
    assert hinge_generator_loss(fake).item() == pytest.approx((2.0 + 0.5) / 2)
    assert square_discriminator_loss(real, fake).item() == pytest.approx((0.625 + 2 + 0 + 0.25) / 2)
    assert square_generator_loss(fake).item() == pytest.approx((5 + 0.25) / 2)


def test_feature_loss_by_hand():
    real = verdict([[0.0]] * 2, [[[2.0, 4.0], [1.0]], [[-8.0]]])
    fake = verdict([[0.0]] * 2, [[[1.0, 1.0], [1.0]], [[0.0]]])
    assert feature_loss(real, fake).item() == pytest.approx((2 + 0 + 8) / 3)
    assert feature_loss(real, fake, relative=True).item() == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_features_of_recordings_get_no_gradient():
    recorded, made = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    feature_loss(Verdict((), ((recorded,),)), Verdict((), ((made,),)), relative=True).backward()
    assert recorded.grad is None
    assert math.isclose(float(made.grad.abs().sum()), 1 / float(recorded.detach().abs().mean()), rel_tol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hinge_discriminator_loss(verdict([[1.0]]), verdict([])), "of one discriminator, but got 1 and 0"),
        (lambda: feature_loss(verdict([], [[[1.0]]]), verdict([], [[]])), "of one discriminator, but got 1 and 0"),
        (lambda: hinge_generator_loss(verdict([])), "at least one judge"),
        (lambda: MultiBandDiscriminator(1, (64,), (0.1, 1.0)), "Argument `edges` must rise"),
        (lambda: MultiBandDiscriminator(1, (64,), (0.0, 0.5, 0.5, 1.0)), "Argument `edges` must rise"),
        (lambda: MultiBandDiscriminator(1, (64,), (0.0, 0.01, 1.0)), "a bin in each band of 33 bins"),
        (lambda: DiscriminatorGroup([]), "Argument `parts` must hold"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_default_sizes_are_the_papers():
    def count(net: nn.Module) -> float:
        return sum(p.numel() for p in net.parameters()) / 1e6

    # HiFi-GAN: five sub-discriminators of 8.22 M each; EnCodec's has 32 channels throughout.
    assert count(MultiPeriodDiscriminator()) == pytest.approx(41.1, abs=0.1)
    assert [len(n.judges) for n in (MultiScaleStftDiscriminator(), MultiBandDiscriminator())] == [5, 3]
