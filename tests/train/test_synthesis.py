"""The synthesis alone learns, on symbols as encoders choose them."""

from dataclasses import asdict

import lightning as L
import pytest
import torch
from models.tiny import TINY, smooth_image
from torch.utils.data import DataLoader

from triode.entropy.coder import CountingWriter
from triode.train.synthesis import SynthesisErrors


def module(**changes):
    torch.manual_seed(0)
    settings = {"config": asdict(TINY), "steps": 30, "warmup": 2, "trainable": ["g_s.head", "g_s.fine", "g_s.tail"]}
    net = SynthesisErrors(**{**settings, **changes})
    net.model.init_from_data(smooth_image(80, 90, seed=i) for i in range(3))
    net.ema.reset(net.model)
    return net


def crops(count, seed=0):
    return [torch.from_numpy(smooth_image(64, 64, seed=seed + i)).permute(2, 0, 1) for i in range(count)]


def test_nothing_but_what_is_named_learns():
    net, q = module(), torch.tensor([10.0, 50.0])
    net.cost(net.errors(torch.stack(crops(2)), q), q).mean().backward()
    learning = {n for n, p in net.model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "g_s.tail.0.weight" in learning
    assert all(n.startswith(("g_s.head", "g_s.fine", "g_s.tail")) for n in learning)


def test_errors_are_those_of_the_codec():
    net = module().eval()
    model, batch, q = net.model, torch.stack(crops(1)), torch.tensor([40])
    with torch.no_grad():
        found = net.errors(batch, q.float())
        model.export()
        x = batch.float() / 255
        y_hat = model.encode(model.analysis(x, q), q, CountingWriter())
        expected = (model.synthesis(model.dequantise(y_hat, q), q) - x).square().mean()
    assert float(found[0]) == pytest.approx(float(expected), rel=0.05)


def test_crops_count_alike():
    net, q = module(floor=0.0), torch.tensor([20.0, 20.0])
    errors = torch.tensor([1e-4, 1e-2], requires_grad=True)
    net.cost(errors, q).sum().backward()
    assert torch.allclose(errors.grad * errors, torch.ones(2))


def test_errors_fall():
    net, data = module(lr=3e-3), DataLoader(crops(30), 2)
    held, q = torch.stack(crops(4, seed=50)), torch.tensor([5.0, 20.0, 40.0, 60.0])
    with torch.no_grad():
        net.model.g_s.tail[0].bias.add_(0.03)  # What there is to learn.

    def cost():
        with torch.no_grad():
            return float(net.cost(net.eval().errors(held, q), q).mean())

    before = cost()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    L.Trainer(accelerator="cpu", max_steps=30, enable_model_summary=False, max_epochs=3, **options).fit(
        net.train(), data
    )
    assert cost() < before - 0.1


def test_validation_logs_psnr():
    net = module()
    logged = {}
    net.log = lambda name, value, **_: logged.setdefault(name, float(value))
    net.validation_step(torch.stack(crops(2)), 0)
    assert set(logged) == {"val/loss", *(f"val/psnr_{3.5 + 8 * k:g}" for k in range(8))}


def test_other_models_are_refused():
    with pytest.raises(TypeError, match="image-light"):
        SynthesisErrors(model="mbt2018-mean", config={"N": 8, "M": 8})
