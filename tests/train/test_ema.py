import copy

import pytest
import torch
from torch import nn

from triode.train.ema import Ema


def model(value=0.0):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(value)
    return net


def test_average_follows_the_definition():
    net = model(1.0)
    ema = Ema(net, decay=0.5)
    expected = 1.0
    for n in range(1, 30):
        with torch.no_grad():
            for p in net.parameters():
                p.fill_(float(n))
        ema.update(net)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
        for average in ema.averages().values():
            assert torch.allclose(average, torch.full_like(average, expected), rtol=1e-5)
    assert int(ema.updates) == 29


def test_first_updates_forget_fast():
    net = model(1.0)
    ema = Ema(net, decay=0.9999)
    net[0].weight.data.fill_(0.0)
    ema.update(net)
    assert float(ema.averages()["0.weight"][0, 0]) == pytest.approx(2 / 11)


def test_averages_bear_the_models_names():
    net = model()
    assert list(Ema(net, 0.9).averages()) == [name for name, _ in net.named_parameters()]


def test_average_is_a_copy():
    net = model(1.0)
    ema = Ema(net, 0.9)
    net[0].weight.data.fill_(5.0)
    assert float(ema.averages()["0.weight"].max()) == 1.0
    assert not any(p.requires_grad for p in ema.averages().values())
    assert list(ema.parameters()) == []


def test_applied_puts_the_average_in_and_takes_it_out():
    net = model(1.0)
    ema = Ema(net, 0.9)
    net[0].weight.data.fill_(5.0)
    with ema.applied(net):
        assert float(net[0].weight.detach().max()) == 1.0
    assert float(net[0].weight.detach().min()) == 5.0
    with pytest.raises(RuntimeError, match="inside"), ema.applied(net):
        raise RuntimeError("inside")
    assert float(net[0].weight.detach().min()) == 5.0


def test_reset_starts_again():
    net = model(1.0)
    ema = Ema(net, 0.9)
    ema.update(net)
    net[0].weight.data.fill_(5.0)
    ema.reset(net)
    assert int(ema.updates) == 0
    assert float(ema.averages()["0.weight"].min()) == 5.0


def test_copy_to_sets_every_parameter():
    ema, net = Ema(model(3.0), 0.9), model(0.0)
    ema.copy_to(net)
    assert {float(p.detach().min()) for p in net.parameters()} == {3.0}


def test_state_travels_with_checkpoints():
    net = model(1.0)
    ema = Ema(net, 0.9)
    net[0].weight.data.fill_(5.0)
    ema.update(net)
    other = Ema(model(0.0), 0.9)
    other.load_state_dict(copy.deepcopy(ema.state_dict()))
    assert int(other.updates) == 1
    assert all(torch.equal(a, b) for a, b in zip(ema.averages().values(), other.averages().values(), strict=True))


def test_a_part_can_start_again():
    net = model(1.0)
    ema = Ema(net, decay=0.5)
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(7.0)
    ema.update(net)
    before = {name: average.clone() for name, average in ema.averages().items()}
    ema.restart(net, "1.")
    for name, average in ema.averages().items():
        expected = torch.full_like(average, 7.0) if name.startswith("1.") else before[name]
        assert torch.equal(average, expected)
    assert int(ema.updates) == 1
