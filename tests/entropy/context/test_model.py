"""The coding loop: decoding gives what encoding saw, and the estimated rate is the real one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.entropy.context.model import ContextModel
from triode.entropy.context.schedule import (
    Schedule,
    channel_groups,
    checkerboard,
    parallel,
    quadtree,
    space_channel,
)
from triode.entropy.exact.layers import to_fixed
from triode.entropy.tables import CdfTables
from triode.errors import BitstreamError, UnsupportedError

CHANNELS = 8
SCHEDULES = {
    "parallel": parallel(CHANNELS),
    "checkerboard": checkerboard(CHANNELS),
    "channel_groups": channel_groups([1, 2, 5]),
    "space_channel": space_channel([2, 6]),
    "quadtree": quadtree(CHANNELS),
}
Q = torch.tensor([20])


class SmallParameters(nn.Module):
    """A 3x3 convolution a step, over the latent so far and the hyper-features."""

    def __init__(self, schedule: Schedule, hyper: int) -> None:
        super().__init__()
        self.schedule = schedule
        self.nets = nn.ModuleList(
            nn.Conv2d(schedule.channels + hyper, 2 * schedule.channels, 3, padding=1) for _ in schedule.steps
        )
        with torch.no_grad():
            for net in self.nets:
                net.weight.normal_(0, 0.05)
                net.bias[schedule.channels :].uniform_(-2, 30)

    def forward(self, step: int, y_hat: Tensor, hyper: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor]]:
        means, indices = self.nets[step](torch.cat([y_hat, hyper], 1)).chunk(2, 1)
        return [(entry.view(means), entry.view(indices)) for entry in self.schedule.steps[step]]


class SamplingReader:
    """Draws symbols from their tables instead of reading them: decoding then samples the model."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def read(self, index: np.ndarray, tables: CdfTables) -> np.ndarray:
        symbols = np.zeros(len(index), dtype=np.int32)
        for t in np.unique(index):
            masses = tables.table(t)[:-1]
            at = index == t
            symbols[at] = self.generator.choice(len(masses), at.sum(), p=masses / masses.sum()) + tables.offsets[t]
        return symbols


def model_of(schedule: Schedule) -> ContextModel:
    torch.manual_seed(0)
    model = ContextModel(schedule, SmallParameters(schedule, 3)).eval()
    model.export()
    return model


def hyper_of(height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1)) * 3


@pytest.mark.parametrize("name", SCHEDULES)
class TestEverySchedule:
    @pytest.mark.parametrize(
        ("full", "valid"), [((6, 8), (6, 8)), ((8, 8), (5, 7)), ((2, 2), (1, 1)), ((4, 4), (1, 4))]
    )
    def test_decode_gives_what_encode_gave(self, name: str, full: tuple[int, int], valid: tuple[int, int]) -> None:
        model, hyper = model_of(SCHEDULES[name]), to_fixed(hyper_of(*full))
        y = torch.randn(1, CHANNELS, *full, generator=torch.Generator().manual_seed(2)) * 20
        y[0, 0, 0, 0], y[0, -1, 0, 0] = 1e6, -1e30
        writer, counter = RangeWriter(), CountingWriter()
        encoded = model.encode(y, hyper, Q, writer, valid)
        assert torch.equal(model.encode(y, hyper, Q, counter, valid), encoded)
        assert writer.count <= CHANNELS * valid[0] * valid[1]
        reader = RangeReader(writer.getvalue())
        decoded = model.decode((CHANNELS, *full), hyper, Q, reader, valid)
        reader.check(writer.crc)
        assert decoded.dtype == torch.float64
        assert torch.equal(decoded, encoded)
        assert torch.equal(decoded, decoded.round())
        assert decoded.abs().max() == 2**23 - 1  # Where the latent was out of range.
        inside = (decoded / 1024 - y)[..., : valid[0], : valid[1]].abs() < 0.5005
        assert inside.sum() >= writer.count - 2

    def test_padding_takes_its_means(self, name: str) -> None:
        """What lies outside of the valid part costs nothing and does not depend on the latent given there."""
        model, hyper = model_of(SCHEDULES[name]), to_fixed(hyper_of(4, 6))
        y = torch.randn(1, CHANNELS, 4, 6) * 20
        other = y.clone()
        other[:, :, 3:], other[:, :, :, 4:] = 77.0, -500.0
        a, b = RangeWriter(), RangeWriter()
        assert torch.equal(model.encode(y, hyper, Q, a, (3, 4)), model.encode(other, hyper, Q, b, (3, 4)))
        assert a.getvalue() == b.getvalue()

    def test_estimate_is_the_code_length(self, name: str) -> None:
        model, hyper = model_of(SCHEDULES[name]), hyper_of(16, 24)
        sample = model.decode((CHANNELS, 16, 24), to_fixed(hyper), Q, SamplingReader(), (16, 24))
        y = (sample / 1024).float()
        writer, counter = RangeWriter(), CountingWriter()
        assert torch.equal(model.encode(y, to_fixed(hyper), Q, writer, (16, 24)), sample)
        model.encode(y, to_fixed(hyper), Q, counter, (16, 24))
        with torch.no_grad():
            out = model(y, hyper, Q)
        assert torch.allclose(out.y_hat, y, atol=0.02)
        assert float(out.bits) == pytest.approx(counter.bits, rel=0.01)
        assert len(writer.getvalue()) * 8 == pytest.approx(counter.bits, rel=0.01)

    def test_training_is_differentiable(self, name: str) -> None:
        model = model_of(SCHEDULES[name]).train()
        y, hyper = torch.randn(2, CHANNELS, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4, requires_grad=True)
        out = model(y, hyper, torch.tensor([3.0, 60.0]))
        assert out.bits.shape == (2,)
        (out.bits.sum() + out.y_hat.square().sum()).backward()
        for tensor in (y, hyper, *model.parameter_net.parameters()):
            assert tensor.grad is not None
            assert tensor.grad.isfinite().all()
            assert tensor.grad.any()


def test_index_zero_is_not_coded() -> None:
    model = model_of(SCHEDULES["checkerboard"])
    with torch.no_grad():
        for net in model.parameter_net.nets:
            net.weight.zero_()
            net.bias.fill_(0.25)
            net.bias[CHANNELS] = 5.0
    model.export()
    y = torch.full((1, CHANNELS, 2, 2), 3.25)
    writer = RangeWriter()
    y_hat = model.encode(y, to_fixed(hyper_of(2, 2)), Q, writer, (2, 2)) / 1024
    assert writer.count == 4
    assert torch.equal(y_hat[:, 0], y[:, 0].double())
    assert (y_hat[:, 1:] == 0.25).all()


@pytest.mark.parametrize("payload", [b"", b"\xff" * 40, bytes(range(200))])
def test_any_bytes_end_in_a_latent_or_an_error(payload: bytes) -> None:
    model, hyper = model_of(SCHEDULES["quadtree"]), to_fixed(hyper_of(8, 8))
    try:
        y_hat = model.decode((CHANNELS, 8, 8), hyper, Q, RangeReader(payload), (7, 8))
    except BitstreamError:
        return
    assert y_hat.isfinite().all()


def test_needs_export() -> None:
    model = ContextModel(parallel(4), SmallParameters(parallel(4), 3))
    with pytest.raises(UnsupportedError, match="export the model"):
        model.encode(torch.zeros(1, 4, 2, 2), torch.zeros(1, 3, 2, 2).double(), Q, RangeWriter(), (2, 2))
    with pytest.raises(UnsupportedError, match="export the model"):
        model.decode((4, 2, 2), torch.zeros(1, 3, 2, 2).double(), Q, RangeReader(b""), (2, 2))
