import hashlib
import sys

import numpy as np
import pytest
import torch
from eval.anchors.pictures import check_facts, check_parts, check_refusals, photo

from triode.errors import BitstreamError, ModelMismatchError, UnsupportedError
from triode.eval.coder import create_coder
from triode.models.complexity import count_macs
from triode.models.registry import create_model

pytest.importorskip("compressai")
SIZES = ((64, 64), (1, 1), (33, 70))


@pytest.fixture(scope="module", autouse=True)
def no_hub(tmp_path_factory):
    """Weights in the user's own cache must not change the tests, and nothing may be downloaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.hub, "get_dir", lambda: str(tmp_path_factory.getbasetemp() / "hub"))
        patch.setattr(torch.hub, "download_url_to_file", lambda *args, **kwargs: pytest.fail("a download"))
        yield


@pytest.fixture(scope="module")
def coder(no_hub):
    return create_coder("compressai", "image")


@pytest.mark.parametrize("model", ["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018", "cheng2020-anchor"])
def test_other_models_code_and_decode(model):
    coder = create_coder(f"compressai:model={model}", "image")
    data = coder.encode(photo(40, 64), coder.qualities[0])
    assert coder.decode(data).shape == (40, 64, 3)
    assert set(coder.parts(data)) == {"header", "y"} | ({"z"} if model != "bmshj2018-factorized" else set())
    check_parts(coder, data)


@pytest.mark.parametrize("size", SIZES)
def test_decoding_gives_what_the_network_reconstructs(coder, size):
    """From the bytes alone: another instance decodes, as the forward pass of the same network has it."""
    pixels = photo(*size)
    data = coder.encode(pixels, 4)
    found = create_coder("compressai", "image").decode(data)
    height, width = size
    padded = np.pad(pixels, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
    with torch.no_grad():
        x = coder._network(4)(torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255)["x_hat"]
    expected = (x.clamp(0, 1) * 255).round()[0, :, :height, :width].permute(1, 2, 0).numpy()
    assert found.shape == pixels.shape
    assert np.abs(found - expected).max() <= 1


def test_header_and_strings(coder):
    data = coder.encode(photo(33, 70), 4)
    parts = coder.parts(data)
    assert data[:5] == b"\0\x46\0\x21\4"
    assert int.from_bytes(data[5:9], "big") == parts["y"]
    assert parts["header"] == 9
    assert coder.payload_bytes(data) == parts["y"] + parts["z"] == len(data) - 9


def test_refuses_what_is_not_valid(coder):
    check_refusals(coder, ())
    for quality in (0, 9, 2.5):
        with pytest.raises(ValueError, match="must be one of 1, 2, 3, 4, 5, 6, 7, 8, but got"):
            coder.encode(photo(8, 8), quality)
    with pytest.raises(UnsupportedError, match="65536 x 1"):
        coder.encode(np.zeros((1, 65536, 3), np.uint8), 4)


def test_damage(coder):
    data = coder.encode(photo(16, 16), 4)
    for bad in (b"", data[:4], data[:8], data[:5] + b"\xff" * 4 + data[9:], bytes(40), data[:4] + b"\x0b" + data[5:]):
        with pytest.raises(BitstreamError):
            coder.decode(bad)


def test_facts_say_that_weights_are_random(coder):
    facts = check_facts(coder, "compressai", "torch")
    assert (facts.kind, facts.options["weights"], facts.digest) == ("learned", "random", None)
    assert "random weights" in facts.title
    assert coder.name == "mbt2018-mean"
    assert coder.qualities == (4.0, 8.0)  # one of each width


def test_complexity_is_that_of_our_own_twin(coder):
    ours = count_macs(create_model("mbt2018-mean", N=192, M=320), 64, 64)
    facts = coder.facts()
    assert facts.encode_kmac == pytest.approx(ours.kmac_encode, rel=1e-6)
    assert facts.decode_kmac == pytest.approx(ours.kmac_decode, rel=1e-6)
    # Theirs counts the three quantiles of each channel of z as parameters.
    assert facts.parameters == ours.parameters + 3 * 192


def test_random_weights_are_the_same_each_time(coder):
    state = torch.random.get_rng_state()
    assert create_coder("compressai", "image").encode(photo(16, 16), 4) == coder.encode(photo(16, 16), 4)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_closing_drops_the_networks():
    coder = create_coder("compressai:model=bmshj2018-factorized", "image")
    data = coder.encode(photo(16, 16), 5)
    coder.close()
    assert not coder._networks
    assert coder.decode(data).shape == (16, 16, 3)


def test_options_are_checked():
    for spec, message in (
        ("compressai:model=elic2022", "one of mbt2018-mean, bmshj2018-factorized"),
        ("compressai:metric=psnr", "one of mse, ms-ssim"),
        ("compressai:quality=3", "it has: model, metric, weights, threads"),
    ):
        with pytest.raises(ValueError, match=message):
            create_coder(spec, "image")
    assert create_coder("compressai:metric=ms-ssim", "image").name == "mbt2018-mean-ms-ssim"


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "compressai.zoo", None)
    with pytest.raises(UnsupportedError, match=r"triode\[zoo\]"):
        create_coder("compressai", "image")


class TestPublished:
    SPEC = "compressai:model=bmshj2018-factorized"

    @pytest.fixture
    def hub(self, tmp_path, monkeypatch):
        """A hub folder with a file of quality 2 under the name of its digest, as the published ones are."""
        from compressai.models import FactorizedPrior
        from compressai.zoo import image as zoo

        with torch.random.fork_rng():
            torch.manual_seed(7)
            network = FactorizedPrior(*zoo.cfgs["bmshj2018-factorized"][2])
        network.update()
        # The names of parameters as the published files have them, older than the package.
        renamed = {
            k.replace("entropy_bottleneck._bias", "entropy_bottleneck._biases."): v
            for k, v in network.state_dict().items()
        }
        folder = tmp_path / "checkpoints"
        folder.mkdir()
        torch.save(renamed, folder / "new")
        digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
        path = (folder / "new").rename(folder / f"bmshj2018-factorized-prior-2-{digest[:8]}.pth.tar")
        urls = zoo.model_urls["bmshj2018-factorized"]["mse"]
        monkeypatch.setitem(urls, 2, f"https://example.invalid/models/{path.name}")
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
        return path, network.eval()

    def test_are_used_where_they_are(self, hub):
        path, network = hub
        coder = create_coder(self.SPEC, "image")
        pixels = photo(64, 64)
        data = coder.encode(pixels, 2)
        with torch.no_grad():
            strings = network.compress(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)["strings"]
        assert data[5:] == strings[0][0]
        facts = coder.facts()
        assert (coder.qualities, facts.options["weights"]) == ((2.0,), "published")
        assert facts.digest == path.name.split("-")[-1].split(".")[0]
        assert "random" not in facts.title

    def test_other_qualities_are_not_made_up(self, hub):
        with pytest.raises(UnsupportedError, match="quality 3, are not there"):
            create_coder(self.SPEC, "image").encode(photo(8, 8), 3)

    def test_random_on_demand(self, hub):
        assert create_coder(f"{self.SPEC},weights=random", "image").facts().options["weights"] == "random"

    def test_damaged_file(self, hub):
        path, _ = hub
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ModelMismatchError, match="damaged"):
            create_coder(self.SPEC, "image").encode(photo(8, 8), 2)

    def test_demanded_but_missing(self):
        with pytest.raises(UnsupportedError, match=r"bmshj2018-factorized-prior-1-446d5c7f\.pth\.tar"):
            create_coder(f"{self.SPEC},weights=published", "image")
