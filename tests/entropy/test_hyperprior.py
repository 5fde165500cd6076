"""Hyperprior: sides of any length, exactness, and bits as estimated."""

from __future__ import annotations

import pytest
import torch
from entropy.context.test_model import SamplingReader
from entropy.small import SMALL, small_latent, small_model

from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.entropy.hyperprior import Hyperprior
from triode.errors import BitstreamError, EntropyMismatchError, UnsupportedError
from triode.models.image.image_light import ImageLight

SIZES = [(1, 1), (1, 4), (3, 2), (5, 7), (8, 8)]


@pytest.fixture(scope="module")
def entropy() -> Hyperprior:
    return small_model().entropy


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("q", [0, 31, 63])
def test_decode_gives_what_encode_gave(entropy: Hyperprior, size: tuple[int, int], q: int) -> None:
    y, rate, writer = small_latent(*size, seed=q), torch.tensor([q]), RangeWriter()
    encoded = entropy.encode(y, rate, writer)
    reader = RangeReader(writer.getvalue())
    decoded = entropy.decode(size, rate, reader)
    reader.check(writer.crc)
    assert (encoded.dtype, encoded.shape) == (torch.float32, y.shape)
    assert torch.equal(decoded, encoded)


def test_side_feeds_the_hyper_analysis(entropy: Hyperprior) -> None:
    y, rate = small_latent(4, 4), torch.tensor([9])
    a, b, c = RangeWriter(), RangeWriter(), RangeWriter()
    entropy.encode(y, rate, a)
    entropy.encode(y, rate, b, side=y)
    entropy.encode(y, rate, c, side=-y)
    assert a.getvalue() == b.getvalue() != c.getvalue()


def test_bits_agree_with_the_coder() -> None:
    entropy = small_model().entropy.eval()
    with torch.no_grad():  # The twin rounds z; let the estimate see values that the tables hold.
        entropy.h_a.gain.log_gain.sub_(2)
    rate, size = torch.tensor([20]), (16, 16)
    side = torch.randn(1, SMALL.latent, *size, generator=torch.Generator().manual_seed(0))
    symbols = entropy.prior.encode(entropy.h_a(side, rate), CountingWriter())
    sample = entropy.context.decode(
        (SMALL.latent, *size), entropy._features(symbols, rate), rate, SamplingReader(), size
    )
    y = (sample / 1024).float()
    writer, counter = RangeWriter(), CountingWriter()
    assert torch.equal(entropy.encode(y, rate, writer, side=side), y)
    entropy.encode(y, rate, counter, side=side)
    with torch.no_grad():
        bits = entropy(y, rate, side=side).bits
    assert sorted(bits) == ["y", "z"]
    assert float(bits["y"] + bits["z"]) == pytest.approx(counter.bits, rel=0.01)
    assert len(writer.getvalue()) * 8 == pytest.approx(counter.bits, rel=0.01)


def test_bad_bytes_end_in_an_error_or_a_mismatch(entropy: Hyperprior) -> None:
    y, rate, writer = small_latent(3, 5), torch.tensor([40]), RangeWriter()
    entropy.encode(y, rate, writer)
    data = writer.getvalue()
    bad = [data[: len(data) // 2], data[1:], bytes(len(data)), b"\xff" * len(data), b"", data[::-1]]
    bad += [data[:i] + bytes([data[i] ^ 16]) + data[i + 1 :] for i in range(0, len(data) - 8, 9)]
    for payload in bad:
        reader = RangeReader(payload)
        with pytest.raises((BitstreamError, EntropyMismatchError)):  # noqa: PT012
            assert entropy.decode((3, 5), rate, reader).isfinite().all()
            reader.check(writer.crc)


def test_wrong_rate_point_or_model_is_noticed(entropy: Hyperprior) -> None:
    y, writer = small_latent(4, 4), RangeWriter()
    entropy.encode(y, torch.tensor([10]), writer)
    for other, q in ((entropy, 11), (small_model(seed=1).entropy, 10)):
        reader = RangeReader(writer.getvalue())
        with pytest.raises(BitstreamError):  # noqa: PT012
            other.decode((4, 4), torch.tensor([q]), reader)
            reader.check(writer.crc)


def test_training_reaches_every_parameter() -> None:
    entropy = ImageLight(SMALL).entropy.train()
    y = torch.randn(2, SMALL.latent, 8, 8, requires_grad=True)
    out = entropy(y, torch.tensor([5.0, 50.0]))
    assert {name: bits.shape for name, bits in out.bits.items()} == {"y": (2,), "z": (2,)}
    sum(bits.sum() for bits in out.bits.values()).backward()
    assert [name for name, p in entropy.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_needs_export() -> None:
    entropy = ImageLight(SMALL).entropy
    with pytest.raises(UnsupportedError, match="export"):
        entropy.encode(torch.zeros(1, SMALL.latent, 4, 4), torch.tensor([0]), RangeWriter())
