"""``elic2022`` through real bytes, its halos, and its groups."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from literature import check_crop, check_halos, check_rates, check_round_trip, check_weights_file, make_plausible

from triode.models.image.elic2022 import Elic2022, Elic2022Config
from triode.models.registry import create_model

GROUPS = (2, 2, 4, 8, 8)


@pytest.fixture(scope="module")
def model() -> Elic2022:
    torch.manual_seed(1)
    model = make_plausible(create_model("elic2022", N=16, M=24, groups=GROUPS))
    model.export()
    return model


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 4)])
def test_round_trip(model: Elic2022, size: tuple[int, int]) -> None:
    check_round_trip(model, size)


def test_rates(model: Elic2022) -> None:
    check_rates(model)


def test_weights_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    check_weights_file(create_model("elic2022", N=16, M=24, groups=GROUPS), "elic2022", tmp_path)


def test_halos(model: Elic2022) -> None:
    check_halos(model)
    check_crop(model)


def test_default_groups_are_the_papers() -> None:
    assert Elic2022Config().groups == (16, 16, 32, 64, 192)
    assert Elic2022Config(M=192).groups == (16, 16, 32, 64, 64)


def test_groups_may_come_from_json() -> None:
    assert Elic2022Config(M=24, groups=list(GROUPS)) == Elic2022Config(M=24, groups=GROUPS)


@pytest.mark.parametrize("changes", [{"M": 128}, {"groups": (16, 16)}, {"M": 3, "groups": (0, 3)}, {"N": 1}, {"N": 0}])
def test_bad_config(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="but got"):
        Elic2022Config(**changes)


def test_qualities_differ_in_lambda_only() -> None:
    first, last = Elic2022Config.from_quality(1), Elic2022Config.from_quality(8)
    assert (first.N, first.M, last.N, last.M) == (192, 320, 192, 320)
    assert (first.lmbda, last.lmbda) == (0.0004, 0.045)
