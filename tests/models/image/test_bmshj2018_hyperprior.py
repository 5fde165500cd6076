"""``bmshj2018-hyperprior`` through real bytes, its halos, and its zero means."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from literature import (
    Q,
    check_crop,
    check_halos,
    check_rates,
    check_round_trip,
    check_weights_file,
    make_plausible,
    picture,
)

from triode.models.image.bmshj2018_hyperprior import Bmshj2018Hyperprior, Bmshj2018HyperpriorConfig
from triode.models.registry import create_model


@pytest.fixture(scope="module")
def model() -> Bmshj2018Hyperprior:
    torch.manual_seed(1)
    model = make_plausible(create_model("bmshj2018-hyperprior", N=16, M=24))
    model.export()
    return model


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 4)])
def test_round_trip(model: Bmshj2018Hyperprior, size: tuple[int, int]) -> None:
    check_round_trip(model, size)


def test_rates(model: Bmshj2018Hyperprior) -> None:
    check_rates(model)


def test_weights_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    check_weights_file(create_model("bmshj2018-hyperprior", N=16, M=24), "bmshj2018-hyperprior", tmp_path)


def test_halos(model: Bmshj2018Hyperprior) -> None:
    check_halos(model)
    check_crop(model)


def test_quantises_around_zero_and_sees_magnitudes(model: Bmshj2018Hyperprior) -> None:
    y = model.analysis(picture(64, 64), Q)
    out, mirrored = model.entropy(y, Q), model.entropy(-y, Q)
    assert torch.equal(out.y_hat, torch.round(y))
    assert torch.equal(out.bits["y"], mirrored.bits["y"])


def test_training_reaches_every_parameter(model: Bmshj2018Hyperprior) -> None:
    model.train()
    out = model(picture(64, 64), Q)
    (out.bits["y"].sum() + out.bits["z"].sum() + 100 * out.x_hat.square().sum()).backward()
    untouched = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    model.eval().zero_grad()
    assert untouched == []


@pytest.mark.parametrize(("quality", "widths"), [(5, (128, 192)), (6, (192, 320))])
def test_qualities(quality: int, widths: tuple[int, int]) -> None:
    config = Bmshj2018HyperpriorConfig.from_quality(quality)
    assert widths == (config.N, config.M)
