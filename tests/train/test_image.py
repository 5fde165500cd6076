import math
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from itertools import pairwise
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from models.tiny import TINY, smooth_image
from torch.utils.data import DataLoader

from triode.errors import ModelMismatchError
from triode.eval.metrics.msssim import ms_ssim
from triode.train.checkpoint import load_small_checkpoint
from triode.train.exact import integer_networks
from triode.train.image import OPTIMIZERS, RateDistortion


def config(**changes):
    return asdict(replace(TINY, **changes))


def module(**changes):
    torch.manual_seed(0)
    net = RateDistortion(**{"config": config(), "steps": 10, "warmup": 2, **changes})
    net.model.init_from_data(smooth_image(80, 90, seed=i) for i in range(3))
    net.ema.reset(net.model)
    return net


def batches(count=10, size=2):
    crops = [torch.from_numpy(smooth_image(64, 64, seed=i)).permute(2, 0, 1) for i in range(count * size)]
    return DataLoader(crops, size)


def trainer(steps, **options):
    return L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


def norm_of(model):
    return float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))


def loss_of(net, x, q):
    torch.manual_seed(1)  # The same noise each time.
    bpp, mse = net.losses(x, net.model(x, q), q)
    return (bpp + net.model.rate_lambda(q) * 255**2 * mse).mean()


def test_a_step_lowers_the_loss():
    net = module()
    net.model.train()
    x, q = next(iter(batches(size=4))).float() / 255, torch.tensor([5.0, 20.0, 40.0, 60.0])
    optimizer = net.configure_optimizers()["optimizer"]
    before = loss_of(net, x, q)
    before.backward()
    optimizer.step()
    after = loss_of(net, x, q)
    assert float(after.detach()) < float(before.detach())


def test_losses_are_bits_per_pixel_and_mean_squared_error():
    net = module().eval()
    x, q = torch.rand(2, 3, 64, 128), torch.tensor([0.0, 63.0])
    with torch.no_grad():
        out = net.model(x, q)
        bpp, mse = net.losses(x, out, q)
    for i in range(2):
        assert float(bpp[i]) == pytest.approx(float(sum(b[i] for b in out.bits.values())) / (64 * 128), rel=1e-5)
        assert float(mse[i]) == pytest.approx(float(((out.x_hat[i] - x[i]) ** 2).mean()), rel=1e-5)


class TestSteps:
    def test_a_step_whose_gradient_is_not_finite_is_left_out(self):
        seen = []

        class Poisoned(RateDistortion):
            def on_after_backward(self):
                if self.global_step == 1:
                    self.model.gain.log_gain.grad[0, 0] = math.nan if not seen[0] else math.inf

            def on_train_batch_end(self, *_):
                seen.append({n: p.detach().clone() for n, p in self.model.named_parameters()})

        for infinite in (False, True):
            seen[:] = [infinite]
            torch.manual_seed(0)
            net = Poisoned(config=config(), steps=10, warmup=1)
            trainer(3).fit(net, batches())
            first, second, third = seen[1:]
            assert net.skipped == 1
            assert all(torch.equal(first[n], second[n]) for n in first)
            assert not all(torch.equal(second[n], third[n]) for n in first)
            assert all(bool(v.isfinite().all()) for v in net.averaged_state().values())

    def test_averages_are_up_to_date_for_callbacks(self):
        updates = []

        class Watch(L.Callback):
            def on_train_batch_end(self, trainer, pl_module, *_):
                updates.append(int(pl_module.ema.updates))

        trainer(3, callbacks=[Watch()]).fit(module(), batches())
        assert updates == [1, 2, 3]

    def test_gradient_is_clipped(self):
        before = []

        class Watch(L.Callback):
            def on_after_backward(self, trainer, pl_module):
                before.append(norm_of(pl_module.model))

            def on_train_batch_end(self, trainer, pl_module, *_):
                assert float(trainer.callback_metrics["grad_norm"]) == pytest.approx(before[-1], rel=1e-4)
                assert norm_of(pl_module.model) == pytest.approx(0.01, rel=1e-3)

        trainer(2, callbacks=[Watch()]).fit(module(clip=0.01), batches())
        assert len(before) == 2
        assert min(before) > 0.02

    def test_resuming_does_not_start_the_weights_again(self, trained, fit, tmp_path, monkeypatch):
        starts = []

        def note(module):
            starts.append({k: v.clone() for k, v in module.state_dict().items()})

        monkeypatch.setattr(RateDistortion, "on_train_start", note)
        checkpoint = trained / "last.ckpt"
        before = RateDistortion.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).state_dict()
        fit(tmp_path, until=5, arguments=("--ckpt_path", str(checkpoint)))
        assert starts[0].keys() == before.keys()
        assert all(torch.equal(starts[0][k], before[k]) for k in before)


def loss_of_a_step(net, batch, monkeypatch):
    """What training_step returns for a batch, and what it logs, without a trainer."""
    logged = {}
    monkeypatch.setattr(net, "log", lambda name, value, **_: logged.update({name: float(value)}))
    monkeypatch.setattr(net, "optimizers", lambda: SimpleNamespace(param_groups=[{"lr": 0.5}]))
    torch.manual_seed(3)
    return float(net.train().training_step(batch, 0).detach()), logged


class TestLoss:
    """Each option against its formula, with the same random numbers."""

    def parts(self, net, batch, *, integers=False):
        torch.manual_seed(3)
        x = batch.float() / 255
        q = (torch.randperm(len(x)) + torch.rand(len(x))) * (63 / len(x))
        q = q.round() if integers else q
        out = net.model.train()(x, q)
        bpp = (out.bits["y"] + out.bits["z"]) / x[0, 0].numel()
        lam = 0.0007 * (0.16 / 0.0007) ** (q / 63)
        weight = lam**-0.4
        return x, out.x_hat, bpp, lam, weight / weight.mean()

    def test_by_default(self, monkeypatch):
        net, batch = module(), next(iter(batches(size=4)))
        loss, logged = loss_of_a_step(net, batch, monkeypatch)
        x, x_hat, bpp, lam, weight = self.parts(net, batch)
        expected = (weight * (bpp + lam * 255**2 * (x_hat - x).square().flatten(1).mean(1))).mean()
        assert loss == logged["loss"] == pytest.approx(float(expected), rel=1e-6)
        assert logged.keys() == {"loss", "bpp", "lr", "seconds"}
        assert logged["bpp"] == pytest.approx(float(bpp.mean()), rel=1e-6)

    def test_ms_ssim_with_squared_errors_at_the_start(self, monkeypatch):
        crops = [torch.from_numpy(smooth_image(192, 192, seed=i)).permute(2, 0, 1) for i in range(2)]
        batch = torch.stack(crops)
        for done, share in ((0.0, 0.4), (0.25, 0.2), (0.5, 0.0), (0.9, 0.0)):
            net = module(distortion="ms-ssim", mse_start=0.4)
            monkeypatch.setattr(net, "progress", lambda _, done=done: done)
            loss, _ = loss_of_a_step(net, batch, monkeypatch)
            x, x_hat, bpp, lam, weight = self.parts(net, batch)
            mse = (x_hat - x).square().flatten(1).mean(1)
            similarity = ms_ssim(x_hat, x, data_range=1.0).float()
            distortion = share * 255**2 * mse + (1 - share) * 1280 * (1 - similarity)
            assert loss == pytest.approx(float((weight * (bpp + lam * distortion)).mean()), rel=1e-5)

    def test_several_distortions(self, monkeypatch):
        batch = torch.stack([torch.from_numpy(smooth_image(192, 192, seed=i)).permute(2, 0, 1) for i in range(2)])
        net = module(distortion={"ms-ssim": 0.25, "mse": 2.0})
        loss, _ = loss_of_a_step(net, batch, monkeypatch)
        x, x_hat, bpp, lam, weight = self.parts(net, batch)
        mse = (x_hat - x).square().flatten(1).mean(1)
        distortion = 2 * 255**2 * mse + 0.25 * 1280 * (1 - ms_ssim(x_hat, x, data_range=1.0).float())
        assert loss == pytest.approx(float((weight * (bpp + lam * distortion)).mean()), rel=1e-5)

    def test_integer_networks_at_the_end(self, monkeypatch):
        net, batch = module(exact_finetune=0.25), next(iter(batches(size=4)))
        for done, exact in ((0.0, False), (0.74, False), (0.75, True), (1.0, True)):
            monkeypatch.setattr(net, "progress", lambda _, done=done: done)
            loss, _ = loss_of_a_step(net, batch, monkeypatch)
            with integer_networks(net.model) if exact else nullcontext():
                x, x_hat, bpp, lam, weight = self.parts(net, batch, integers=exact)
            expected = (weight * (bpp + lam * 255**2 * (x_hat - x).square().flatten(1).mean(1))).mean()
            assert loss == pytest.approx(float(expected), rel=1e-6)

    def test_quantiser_reaches_every_latent(self):
        x, q = next(iter(batches(size=2))).float() / 255, torch.tensor([10.0, 50.0])
        seen = {}
        for quantiser in ("mixed", "noise", "ste"):
            net = module(quantiser=quantiser)
            net.model.train()
            outs = []
            for seed in (0, 1):
                torch.manual_seed(seed)
                outs.append(net.model(x, q))
            same_bits = {part: torch.equal(outs[0].bits[part], outs[1].bits[part]) for part in ("y", "z")}
            seen[quantiser] = (torch.equal(outs[0].x_hat, outs[1].x_hat), *same_bits.values())
            rounded = net.model.eval()(x, q)
            assert torch.equal(outs[0].x_hat, rounded.x_hat) == (quantiser != "noise")
        assert seen == {"mixed": (True, False, False), "noise": (False, False, False), "ste": (True, True, True)}


def test_validation_logs_what_is_trained_for(monkeypatch):
    crops = [torch.from_numpy(smooth_image(192, 192, seed=i)).permute(2, 0, 1) for i in range(2)]
    net = module(distortion="ms-ssim")
    task = trainer(1, limit_val_batches=1)
    task.validate(net, DataLoader(crops, 2), verbose=False)
    metrics = {k: float(v) for k, v in task.callback_metrics.items()}
    assert len(metrics) == 3 * 8 + 1
    for low, high in pairwise(("3.5", "27.5", "59.5")):
        assert all(metrics[f"val/{m}_{low}"] < metrics[f"val/{m}_{high}"] for m in ("bpp", "psnr", "ms_ssim_db"))
    q = torch.linspace(3.5, 59.5, 8)
    lam = net.model.rate_lambda(q)
    x = torch.stack(crops) / 255
    expected = []
    with torch.no_grad():
        for point in q:
            out = net.model.eval()(x, point.expand(2))
            bpp, _ = net.losses(x, out, q)
            cost = bpp + lam[q == point] * 1280 * (1 - ms_ssim(out.x_hat, x, data_range=1.0).float())
            expected.append(float((lam[q == point] ** -0.4 * cost).mean()))
    assert metrics["val/loss"] == pytest.approx(sum(expected) / 8, rel=1e-4)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_learns(name):
    net = module(optimizer=name, lr=1e-3)
    net.model.train()
    x, q = next(iter(batches(size=4))).float() / 255, torch.tensor([5.0, 20.0, 40.0, 60.0])
    optimizer = net.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        losses.append(loss_of(net, x, q))
        losses[-1].backward()
        optimizer.step()
    assert float(losses[-1].detach()) < float(losses[0].detach())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distortion": "psnr"}, "distortion"),
        ({"distortion": {}}, "distortion"),
        ({"distortion": {"mse": 0.0}}, "distortion"),
        ({"distortion": {"mse": 1.0, "ms-ssim": -0.5}}, "distortion"),
        ({"mse_start": 1.5}, "mse_start"),
        ({"exact_finetune": -0.1}, "exact_finetune"),
        ({"quantiser": "round"}, "quantiser.*mixed, noise, ste"),
        ({"rate_points": "all"}, "rate_points.*stratified"),
        ({"optimizer": "lion"}, "optimizer.*adamw"),
        ({"rate_range": (40.0, 20.0)}, "rate_range"),
        ({"rate_range": (0.0, 64.0)}, "rate_range"),
        ({"linear_start": "dct"}, "linear_start.*components"),
        ({"trainable": ["decoder."]}, "trainable.*decoder"),
        ({"trainable": []}, "trainable"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        RateDistortion(config=config(), **changes)


def test_an_encoder_learns_for_a_decoder_that_stays():
    net = module(trainable=["g_a.", "entropy.h_a."], lr=1e-2, warmup=0)
    before = {name: p.detach().clone() for name, p in net.model.named_parameters()}
    trainer(3).fit(net, batches())
    changed = {name for name, p in net.model.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[0] for name in changed} == {"g_a", "entropy"}
    assert all(name.startswith(("g_a.", "entropy.h_a.")) for name in changed)
    assert {"g_a.linear.weight", "g_a.tail.weight"} <= changed


def test_seconds_are_those_since_the_fit_began(monkeypatch):
    net = module()
    net.begun, net.fit_begun = 5.0, 7.0
    monkeypatch.setattr("triode.train.image.time.monotonic", lambda: 12.5)
    assert loss_of_a_step(net, next(iter(batches())), monkeypatch)[1]["seconds"] == 5.5


class TestSchedule:
    def test_values(self):
        net = RateDistortion(config=config(), steps=1000, warmup=10, decay=0.5)
        assert net.schedule(0) == pytest.approx(0.1)
        assert net.schedule(9) == pytest.approx(1.0)
        assert {net.schedule(s) for s in range(10, 501, 35)} == {1.0}
        assert net.schedule(750) == pytest.approx(0.01 + 0.99 / 2)
        assert net.schedule(1000) == net.schedule(5000) == pytest.approx(0.01)
        fall = [net.schedule(s) for s in range(500, 1001)]
        assert fall == sorted(fall, reverse=True)

    @pytest.mark.parametrize("decay", [0.0, 1.0])
    def test_ends(self, decay):
        net = RateDistortion(config=config(), steps=100, warmup=0, decay=decay)
        factors = [net.schedule(s) for s in range(101)]
        assert factors[0] == pytest.approx(1.0)
        assert factors[-1] == pytest.approx(0.01 if decay else 1.0)

    def test_linear_path_learns_more_slowly(self):
        net = RateDistortion(config=config(), lr=1e-2, linear_lr=0.1, warmup=1)
        fast, slow = net.configure_optimizers()["optimizer"].param_groups
        assert (fast["lr"], slow["lr"]) == (pytest.approx(1e-2), pytest.approx(1e-3))
        names = {id(p): n for n, p in net.model.named_parameters()}
        assert {names[id(p)] for p in slow["params"]} == {
            "g_a.linear.weight",
            "g_a.linear.bias",
            "g_s.linear.0.weight",
            "g_s.linear.0.bias",
        }
        assert len(fast["params"]) + len(slow["params"]) == len(names)


class TestRatePoints:
    @pytest.mark.parametrize("count", [1, 2, 8])
    def test_stratified(self, count):
        net = RateDistortion(config=config())
        torch.manual_seed(0)
        for _ in range(50):
            q = net.draw_rate_points(count)
            assert q.shape == (count,)
            assert sorted((q * count / 63).floor().tolist()) == list(range(count))

    @pytest.mark.parametrize("way", ["stratified", "uniform", "log-edge"])
    def test_distribution(self, way):
        net = RateDistortion(config=config(), rate_points=way)
        torch.manual_seed(0)
        q = torch.cat([net.draw_rate_points(8) for _ in range(5000)])
        assert 0 <= float(q.min()) < 0.1 < 62.9 < float(q.max()) <= 63
        share = torch.histc(q, 9, 0, 63) / len(q)
        flat = torch.full((9,), 1 / 9)
        edges = torch.linspace(0, 1, 10)
        arcsine = (2 / math.pi * torch.asin(edges.sqrt())).diff()
        assert torch.allclose(share, arcsine if way == "log-edge" else flat, atol=0.006)

    @pytest.mark.parametrize("way", ["stratified", "uniform", "log-edge"])
    def test_range(self, way):
        q = RateDistortion(config=config(), rate_points=way, rate_range=(10.0, 20.0)).draw_rate_points(2000)
        assert 10 <= float(q.min()) < 10.2 < 19.8 < float(q.max()) <= 20
        one = RateDistortion(config=config(), rate_points=way, rate_range=(19.5, 19.5)).draw_rate_points(5)
        assert one.tolist() == [19.5] * 5

    def test_processes_have_their_own(self):
        drawn = []
        for rank, size in ((0, 1), (0, 2), (1, 2)):
            net = RateDistortion(config=config())
            net.trainer = SimpleNamespace(world_size=size, global_rank=rank)
            torch.manual_seed(5)
            net.on_train_start()
            drawn.append(net.draw_rate_points(8).tolist())
        assert drawn[0] == drawn[1] != drawn[2]

    def test_uniform_ones_fall_together(self):
        net = RateDistortion(config=config(), rate_points="uniform")
        torch.manual_seed(0)
        empty = [len(set((net.draw_rate_points(8) * 8 / 63).long().tolist())) < 8 for _ in range(20)]
        assert any(empty)


class TestInit:
    def test_starts_from_a_small_checkpoint(self, trained):
        path = trained / "small.safetensors"
        state, facts = load_small_checkpoint(path)
        starts = []

        class Watch(L.Callback):
            def on_train_start(self, trainer, pl_module):
                starts.append({n: p.detach().clone() for n, p in pl_module.model.named_parameters()})

        net = RateDistortion(config=config(), init=str(path), warmup=1)
        trainer(1, callbacks=[Watch()]).fit(net, batches())
        assert net.start == facts
        assert all(torch.equal(p, state[n]) for n, p in starts[0].items())

    def test_another_model(self, trained):
        net = RateDistortion(config=config(features=16), init=str(trained / "small.safetensors"))
        with pytest.raises(ModelMismatchError, match="another model"):
            trainer(1).fit(net, batches())

    def test_no_checkpoint(self, tmp_path):
        net = RateDistortion(config=config(), init=str(tmp_path / "none.safetensors"))
        with pytest.raises(ModelMismatchError, match="none"):
            trainer(1).fit(net, batches())

    def test_without_data_module_or_checkpoint_the_weights_stay(self):
        net = RateDistortion(config=config(), warmup=1)
        before = net.model.g_a.linear.weight.detach().clone()
        net.lr = 0.0
        trainer(1).fit(net, batches())
        assert torch.equal(net.model.g_a.linear.weight, before)


def test_seconds_bound_the_run(monkeypatch):
    net = module(seconds=100.0, warmup=0, decay=0.5, steps=10**6)
    factors = []
    for elapsed in (0, 49, 75, 100, 1000):
        monkeypatch.setattr(net, "clock", lambda elapsed=elapsed: net.begun + elapsed)
        factors.append(net.schedule(5))
    assert factors == pytest.approx([1.0, 1.0, 0.505, 0.01, 0.01])


@pytest.mark.parametrize(("clock", "read"), [("wall", time.monotonic), ("processor", time.process_time)])
def test_the_clock_that_bounds_a_run(clock, read):
    net = module(seconds=100.0, clock=clock)
    before = net.clock()
    assert before <= read() <= net.clock() < before + 60
    assert net.begun <= before < net.begun + 60
