import math
from dataclasses import asdict, replace

import lightning as L
import pytest
import torch
from models.tiny import TINY, smooth_image
from torch.utils.data import DataLoader

from triode.errors import ModelMismatchError
from triode.train.checkpoint import load_small_checkpoint
from triode.train.image import RateDistortion


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


@pytest.mark.parametrize("count", [1, 2, 8])
def test_rate_points_are_stratified(count):
    net = RateDistortion(config=config())
    torch.manual_seed(0)
    for _ in range(50):
        q = net.draw_rate_points(count)
        assert q.shape == (count,)
        assert sorted((q * count / 63).floor().tolist()) == list(range(count))


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
        monkeypatch.setattr("triode.train.image.time.monotonic", lambda elapsed=elapsed: net.begun + elapsed)
        factors.append(net.schedule(5))
    assert factors == pytest.approx([1.0, 1.0, 0.505, 0.01, 0.01])
