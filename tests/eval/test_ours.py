import hashlib
import io

import pytest
import torch
from eval.anchors.pictures import check_curve, check_facts, check_refusals, check_sizes, photo
from literature import make_plausible
from models.tiny import save_tiny

from triode.codecs.image import ImageCodec
from triode.container import ContainerReader
from triode.entropy.coder import CountingWriter, RangeReader
from triode.errors import BitstreamError, ModelMismatchError
from triode.eval.coder import create_coder
from triode.media import Picture
from triode.models.registry import create_model
from triode.models.weights import default_weights, load_weights, read_info, save_weights


@pytest.fixture(scope="module")
def coder():
    return create_coder("triode", "image")


@pytest.fixture
def tiny(tmp_path):
    return save_tiny(tmp_path)


def test_codes_better_with_more_bytes(coder):
    check_curve(coder)


def test_codes_every_size(coder):
    check_sizes(coder, 90)


def test_refuses_what_is_not_valid(coder):
    check_refusals(coder, (-1, 101))


def test_is_the_codec_that_users_have(coder):
    pixels = photo()
    encoded = ImageCodec().encode(Picture(pixels), quality=30)
    assert coder.encode(pixels, 30) == encoded.data
    assert coder.payload_bytes(encoded.data) == encoded.payload_bytes
    assert (coder.decode(encoded.data) == ImageCodec().decode(encoded.data).pixels).all()


class Splitting(RangeReader):
    """Counts the ideal code length of the first call, which is z, and of the others."""

    def __init__(self, data):
        super().__init__(data)
        self.counts = [CountingWriter(), CountingWriter()]
        self.calls = 0

    def read(self, index, tables):
        symbols = super().read(index, tables)
        self.counts[min(self.calls, 1)].write(symbols, index, tables)
        self.calls += 1
        return symbols


@pytest.mark.parametrize("quality", [10, 90])
def test_parts_weigh_what_their_symbols_do(coder, quality):
    data = coder.encode(photo(), quality)
    parts = coder.parts(data)
    unit = next(ContainerReader(io.BytesIO(data)).units())
    reader = Splitting(unit.payload)
    model = load_weights(default_weights("image")).model
    model.decode((6, 8), torch.tensor([unit.rate_point]), reader)
    before = reader.counts[1].bits
    assert model.restoration is not None
    assert model.restoration.read(unit.rate_point, reader) is not None
    z, rest = (count.bits / 8 for count in reader.counts)
    assert list(parts) == ["header", "z", "filter", "y"]
    assert parts["header"] == len(data) - len(unit.payload)
    assert abs(parts["z"] - z) <= 2
    assert abs(parts["filter"] - (rest - before / 8)) <= 2
    assert abs(parts["y"] - before / 8) <= 4  # What the others have too much.
    assert sum(parts.values()) == len(data)


def test_parts_of_tiles(tiny):
    """Each unit is weighed with its own size."""
    coder = create_coder(f"triode:model={tiny.path}", "image")
    data = ImageCodec(str(tiny.path), tile_log2=7).encode(Picture(photo(150, 300)), quality=50).data
    info = ImageCodec().info(data)
    parts = coder.parts(data)
    assert info.tiles == 6
    assert sum(parts.values()) == len(data)
    assert parts["y"] + parts["z"] == info.payload_bytes
    assert parts["z"] > 0 < parts["y"]


def test_facts(coder):
    info = read_info(load_weights(default_weights("image")).info.path)
    facts = check_facts(coder, "triode", "torch")
    assert coder.name == info.name == facts.options["model"]
    assert (facts.kind, facts.parameters) == ("learned", info.parameters)
    assert (facts.encode_kmac, facts.decode_kmac) == (info.kmac_encode, info.kmac_decode)
    assert facts.digest == hashlib.sha256(info.path.read_bytes()).hexdigest()


def test_model_by_path(tiny):
    coder = create_coder(f"triode:model={tiny.path}", "image")
    check_curve(coder, (0, 50, 100))
    facts = check_facts(coder)
    assert coder.name == tiny.name
    assert facts.encode_kmac is facts.decode_kmac is None  # the file does not tell


def test_model_of_one_rate_and_without_side_information(tmp_path):
    path = tmp_path / "factorized.v1.safetensors"
    model = make_plausible(create_model("bmshj2018-factorized", N=8, M=12))
    save_weights(model, path, name="factorized.v1", architecture="bmshj2018-factorized")
    coder = create_coder(f"triode:model={path}", "image")
    assert coder.qualities == (50.0,)
    data = coder.encode(photo(64, 64), 50)
    payload = ImageCodec().info(data).payload_bytes
    assert coder.parts(data) == {"header": len(data) - payload, "y": payload}


def test_effort_reaches_the_encoder(monkeypatch):
    seen = []
    original = ImageCodec.encode

    def encode(self, picture, *, quality=None, effort):
        seen.append(effort)
        return original(self, picture, quality=quality)

    monkeypatch.setattr(ImageCodec, "encode", encode)
    usual, slow = create_coder("triode", "image"), create_coder("triode:effort=high", "image")
    assert usual.encode(photo(16, 16), 50) == slow.encode(photo(16, 16), 50)
    assert seen == ["none", "high"]
    assert slow.name == f"{usual.name}-effort-high"
    assert (slow.facts().options["effort"], usual.facts().options["effort"]) == ("high", "none")


def test_effort_that_the_codec_does_not_have():
    with pytest.raises(ValueError, match="one of none, low, high"):
        create_coder("triode:effort=3", "image")


def test_damage(coder, tiny):
    data = coder.encode(photo(16, 16), 50)
    for bad in (b"", data[:20], data[:-4]):
        with pytest.raises(BitstreamError):
            coder.decode(bad)
    with pytest.raises(ModelMismatchError):
        create_coder(f"triode:model={tiny.path}", "image").decode(data)


def test_options_are_checked():
    with pytest.raises(ModelMismatchError, match="No weights named 'nope'"):
        create_coder("triode:model=nope", "image")
    for spec, message in (
        ("triode:threads=0", "integer in 1..64"),
        ("triode:quality=5", "it has: model, effort, threads"),
    ):
        with pytest.raises(ValueError, match=message):
            create_coder(spec, "image")


def test_threads_are_set_while_coding_only(coder, monkeypatch):
    seen, before = [], torch.get_num_threads()
    original = ImageCodec.decode
    monkeypatch.setattr(
        ImageCodec, "decode", lambda self, data: seen.append(torch.get_num_threads()) or original(self, data)
    )
    data = coder.encode(photo(16, 16), 50)
    coder.decode(data)
    create_coder("triode:threads=2", "image").decode(data)
    assert (seen, torch.get_num_threads()) == ([1, 2], before)
