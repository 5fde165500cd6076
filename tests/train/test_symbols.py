"""Entropy models alone learn, on symbols as encoders choose them."""

from dataclasses import asdict

import lightning as L
import pytest
import torch
from models.tiny import TINY, smooth_image
from torch.utils.data import DataLoader

from triode.entropy.coder import CountingWriter
from triode.train.symbols import SymbolRates


def module(**changes):
    torch.manual_seed(0)
    net = SymbolRates(**{"config": asdict(TINY), "steps": 30, "warmup": 2, "trainable": ["entropy."], **changes})
    net.model.init_from_data(smooth_image(80, 90, seed=i) for i in range(3))
    net.ema.reset(net.model)
    return net


def crops(count, seed=0):
    return [torch.from_numpy(smooth_image(64, 64, seed=seed + i)).permute(2, 0, 1) for i in range(count)]


def test_nothing_but_the_entropy_model_learns():
    net = module()
    before = {n: p.detach().clone() for n, p in net.model.named_parameters()}
    net.draw_rate_points(2)
    bpp, price = net.symbol_costs(torch.stack(crops(2)), torch.tensor([10.0, 50.0]))
    (bpp + price).mean().backward()
    learning = {n for n, p in net.model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert all(n.startswith("entropy.") for n in learning)
    assert {n.split(".")[1] for n in learning} == {"h_a", "h_s", "prior", "context"}
    assert all(torch.equal(p, before[n]) for n, p in net.model.named_parameters())


def test_bits_are_those_of_the_encoder():
    net = module().eval()
    model, batch, q = net.model, torch.stack(crops(1)), torch.tensor([40])
    with torch.no_grad():
        bpp, price = net.symbol_costs(batch, q.float())
        model.export()
        counter = CountingWriter()
        y = model.analysis(batch.float() / 255, q)
        y_hat = model.encode(y, q, counter)
        errors = (y_hat - model.scale(y, q)).square().sum((2, 3))
        expected = float((model.error_weight(q) * net.share / model.rdoq * errors[0]).sum()) / 64**2
    assert float(bpp) == pytest.approx(counter.bits / 64**2, rel=0.02)
    assert float(price) == pytest.approx(expected, rel=0.05)


def test_costs_fall():
    net, data = module(lr=3e-3), DataLoader(crops(30), 2)
    held, q = torch.stack(crops(4, seed=50)), torch.tensor([5.0, 20.0, 40.0, 60.0])

    def cost():
        with torch.no_grad():
            return float((net.importance(q) * sum(net.eval().symbol_costs(held, q))).mean())

    before = cost()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    L.Trainer(accelerator="cpu", max_steps=30, enable_model_summary=False, max_epochs=3, **options).fit(
        net.train(), data
    )
    assert cost() < 0.99 * before


def test_other_models_are_refused():
    with pytest.raises(TypeError, match="image-light"):
        SymbolRates(model="mbt2018-mean", config={"N": 8, "M": 8})
