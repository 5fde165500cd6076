"""``mbt2018-mean`` through real bytes, its halos, and the reach of its export."""

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
    total_bits,
)

from triode.models.image.mbt2018_mean import Mbt2018Mean, Mbt2018MeanConfig
from triode.models.registry import create_model


@pytest.fixture(scope="module")
def model() -> Mbt2018Mean:
    torch.manual_seed(1)
    model = make_plausible(create_model("mbt2018-mean", N=16, M=24))
    model.export()
    return model


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 4)])
def test_round_trip(model: Mbt2018Mean, size: tuple[int, int]) -> None:
    check_round_trip(model, size)


def test_rates(model: Mbt2018Mean) -> None:
    check_rates(model)


def test_weights_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    check_weights_file(create_model("mbt2018-mean", N=16, M=24), "mbt2018-mean", tmp_path)


def test_halos(model: Mbt2018Mean) -> None:
    check_halos(model)
    check_crop(model)


@torch.no_grad()
def test_batch_is_samples(model: Mbt2018Mean) -> None:
    pictures = [picture(64, 128, s) for s in range(2)]
    both = model(torch.cat(pictures), torch.zeros(2))
    for i, x in enumerate(pictures):
        assert float(sum(b[i] for b in both.bits.values())) == pytest.approx(total_bits(model(x, Q)), rel=1e-5)


@torch.no_grad()
def test_rate_points_have_no_effect(model: Mbt2018Mean) -> None:
    x = picture(64, 64)
    low, high = model(x, torch.tensor([0.0])), model(x, torch.tensor([63.0]))
    assert torch.equal(low.x_hat, high.x_hat)
    assert total_bits(low) == total_bits(high)


@pytest.mark.parametrize(("quality", "widths"), [(4, (128, 192)), (5, (192, 320))])
def test_qualities(quality: int, widths: tuple[int, int]) -> None:
    config = Mbt2018MeanConfig.from_quality(quality)
    assert widths == (config.N, config.M)
