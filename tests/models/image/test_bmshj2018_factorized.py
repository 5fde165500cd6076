"""``bmshj2018-factorized`` through real bytes, its halos, and what its export freezes."""

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

from triode.entropy.coder import CountingWriter
from triode.entropy.exact.state import entropy_state
from triode.errors import UnsupportedError
from triode.models.image.bmshj2018_factorized import Bmshj2018Factorized, Bmshj2018FactorizedConfig
from triode.models.registry import create_model
from triode.models.weights.digest import entropy_digest, known_answer


@pytest.fixture(scope="module")
def model() -> Bmshj2018Factorized:
    torch.manual_seed(1)
    model = make_plausible(create_model("bmshj2018-factorized", N=16, M=24))
    model.export()
    return model


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 4)])
def test_round_trip(model: Bmshj2018Factorized, size: tuple[int, int]) -> None:
    check_round_trip(model, size)


def test_rates(model: Bmshj2018Factorized) -> None:
    check_rates(model)


def test_weights_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    check_weights_file(create_model("bmshj2018-factorized", N=16, M=24), "bmshj2018-factorized", tmp_path)


def test_halos(model: Bmshj2018Factorized) -> None:
    check_halos(model)
    check_crop(model)


def test_has_no_z(model: Bmshj2018Factorized) -> None:
    assert list(model(picture(64, 64), Q).bits) == ["y"]


def test_needs_an_export() -> None:
    model = create_model("bmshj2018-factorized", N=4, M=6)
    with pytest.raises(UnsupportedError, match="export"):
        model.encode(torch.zeros(1, 6, 2, 2), Q, CountingWriter())


def test_export_keeps_medians_that_are_set(model: Bmshj2018Factorized) -> None:
    prior = model.entropy.prior
    own = torch.linspace(-2.3, 4.1, 24)
    before = prior.medians.clone()
    digest = entropy_digest(model, "")
    prior.medians.copy_(own)
    prior.export()
    assert torch.equal(prior.medians, own)
    assert entropy_digest(model, "") != digest
    assert entropy_state(model)["entropy.prior.fixed_medians.value"].tolist() == torch.round(own * 1024).int().tolist()
    check_rates(model)
    prior.medians.copy_(before)
    prior.export()
    assert entropy_digest(model, "") == digest


def test_export_finds_medians_that_are_not_set() -> None:
    torch.manual_seed(2)
    model = create_model("bmshj2018-factorized", N=4, M=6)
    model.export()
    prior = model.entropy.prior
    assert bool((prior.medians != 0).all())
    assert float(prior.logits_cumulative(prior.medians.view(-1, 1, 1)).detach().abs().max()) < 1e-4


def test_known_answer_survives_half_precision_medians(model: Bmshj2018Factorized) -> None:
    answer = known_answer(model)
    stored = model.entropy.prior.medians.clone()
    model.entropy.prior.medians.copy_(stored.half())
    assert known_answer(model) == answer
    model.entropy.prior.medians.copy_(stored)


@pytest.mark.parametrize(("quality", "widths"), [(1, (128, 192)), (5, (128, 192)), (6, (192, 320)), (8, (192, 320))])
def test_qualities(quality: int, widths: tuple[int, int]) -> None:
    config = Bmshj2018FactorizedConfig.from_quality(quality)
    assert widths == (config.N, config.M)


@pytest.mark.parametrize("quality", [0, 9])
def test_no_such_quality(quality: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.8"):
        Bmshj2018FactorizedConfig.from_quality(quality)


@pytest.mark.parametrize("changes", [{"N": 0}, {"M": 0}, {"lmbda": 0.0}, {"lmbda": float("nan")}])
def test_bad_config(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="but got"):
        Bmshj2018FactorizedConfig(**changes)


def test_lambda_is_the_configs() -> None:
    model = create_model("bmshj2018-factorized", N=4, M=6, lmbda=0.5)
    assert model.rate_lambda(torch.tensor([0, 63])).tolist() == [0.5, 0.5]
