"""Units that no encoder wrote: frames or a typed error, whatever the model."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from models.learned_video import stir, threads, tiny_light, tiny_stem

from triode.codecs.gop_decoder import decode_frames, decode_symbols, decoding_memory, groups_at_once
from triode.container import CodedFrame, DecodeLimits, FrameKind, Unit, VideoHead, VideoUnit
from triode.entropy.exact.layers import ACTIVATION_MAX
from triode.entropy.tables import SYMBOL_MAX, CdfTables, Int32Array, IntArray
from triode.errors import BitstreamError, CodecError, EntropyMismatchError, UnsupportedError
from triode.models.base import VideoModel
from triode.models.video.ssf2020 import Ssf2020, Ssf2020Config

HEAD = VideoHead(38, 26, Fraction(1, 25), 1, 4)


def tiny_ssf() -> VideoModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Ssf2020(Ssf2020Config(N=8, M=8)).eval()
    stir(model, 0.5)
    model.export()
    return model


MODELS = {
    "stem": tiny_stem(),
    "video-light": tiny_light(),
    "video-light with motion": tiny_light(motion=True),
    "ssf2020": tiny_ssf(),
}


@pytest.fixture
def any_checksum() -> Iterator[None]:
    """Let units pass whose symbols have another checksum than the one that they name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triode.codecs.gop_decoder.crc_of", lambda _: 0)
        yield


def unit(*frames: CodedFrame) -> tuple[Unit, VideoUnit]:
    return Unit(0, 0, 0, b""), VideoUnit(0, 0, frames)


coded = st.one_of(
    st.binary(max_size=60), st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.integers(1, 300))
)


@pytest.mark.usefixtures("any_checksum")
@pytest.mark.parametrize("name", MODELS)
def test_bytes_of_any_kind(name: str) -> None:
    model, made = MODELS[name], []

    @given(st.lists(st.builds(CodedFrame, st.sampled_from(FrameKind), st.integers(0, 63), coded), max_size=3), coded)
    @example([CodedFrame(FrameKind.INTER, 30, b"")], b"")
    @settings(max_examples=15, deadline=None)
    def check(frames: list[CodedFrame], first: bytes) -> None:
        given_unit, video = unit(CodedFrame(FrameKind.INTRA, 63, first), *frames)
        try:
            found = list(decode_frames(model, HEAD, video, decode_symbols(model, HEAD, given_unit, video)))
        except CodecError:
            return
        assert [[plane.shape for plane in planes] for planes in found] == [[(26, 38), (13, 19), (13, 19)]] * len(
            video.frames
        )
        assert all(plane.dtype == np.uint8 for planes in found for plane in planes)
        made.append(len(found))

    check()
    assert max(made) > 1


class Wild:
    """Reads symbols of any size, as a stream may hold them."""

    crc = 0

    def __init__(self, size: int) -> None:
        self.size, self.rng = size, np.random.default_rng(size)

    def read(self, index: IntArray, tables: CdfTables) -> Int32Array:
        return self.rng.integers(-self.size, self.size + 1, len(index), dtype=np.int32)


@pytest.mark.usefixtures("any_checksum")
@pytest.mark.parametrize("size", [3, 500, SYMBOL_MAX])
@pytest.mark.parametrize("name", MODELS)
def test_symbols_of_any_size(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[name]
    monkeypatch.setattr("triode.codecs.gop_decoder.RangeReader", lambda _: Wild(size))
    kinds = [FrameKind.INTRA, *[FrameKind.INTER] * 3, FrameKind.INTRA, max(model.kinds)]
    given_unit, video = unit(
        *(CodedFrame(kind, point, b"") for kind, point in zip(kinds, (63, 0, 40, 63, 9, 9), strict=True))
    )
    latents = decode_symbols(model, HEAD, given_unit, video)
    assert all(bool(value.isfinite().all()) for latent in latents for value in latent.values)
    assert all(int(value.abs().max()) <= ACTIVATION_MAX for latent in latents for value in latent.integers)
    try:
        found = list(decode_frames(model, HEAD, video, latents))
    except BitstreamError as error:
        assert "no numbers" in str(error)  # noqa: PT017
        return
    assert len(found) == len(kinds)


@pytest.mark.parametrize("name", MODELS)
def test_another_checksum(name: str) -> None:
    with pytest.raises(EntropyMismatchError, match="CRC"):
        decode_symbols(MODELS[name], HEAD, *unit(CodedFrame(FrameKind.INTRA, 30, b"")))  # which always decodes


@pytest.mark.parametrize("name", ["stem", "ssf2020"])
def test_kinds_that_a_model_lacks(name: str) -> None:
    frames = CodedFrame(FrameKind.INTRA, 30, b""), CodedFrame(FrameKind.REFRESH, 30, b"")
    with pytest.raises(UnsupportedError, match="refresh"):
        decode_symbols(MODELS[name], HEAD, *unit(*frames))


def test_memory_follows_the_widths() -> None:
    """A synthesis holds a layer and the one before it, both of N channels at half of the resolution."""
    head = VideoHead(1000, 1000, Fraction(1, 25), 1, 1)
    with torch.device("meta"):
        models = [Ssf2020(Ssf2020Config(N=n, M=8)) for n in (128, 256)]
    for model in models:
        assert decoding_memory(model, head) > 2 * 4 * model.config.N * 500 * 500


@pytest.mark.parametrize(
    ("size", "count", "expected"),
    [((352, 288), 1, 1), ((352, 288), 4, 4), ((1920, 1080), 4, 2), ((7680, 4320), 4, 1)],
)
def test_as_many_groups_at_once_as_memory_takes(size: tuple[int, int], count: int, expected: int) -> None:
    model, head = MODELS["stem"], VideoHead(*size, Fraction(1, 25), 1, 32)
    with threads(count):
        assert groups_at_once(model, head) == expected
        assert groups_at_once(model, head, DecodeLimits.unlimited()) == expected
        assert groups_at_once(model, head, DecodeLimits(max_memory_bytes=2 * decoding_memory(model, head))) <= 2
        assert groups_at_once(model, head, DecodeLimits(max_memory_bytes=1)) == 1
