"""The user's API, over a stand-in for the codec; `tests/cli/test_real.py` has the real one."""

import io
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from cli import fake_codec
from PIL import Image

import triode
from triode.media import Picture

ROOT = Path(__file__).resolve().parent.parent
PIXELS = np.random.default_rng(1).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.fixture(autouse=True)
def codec(monkeypatch):
    monkeypatch.setitem(sys.modules, "triode.codecs.image", fake_codec)


class TestNames:
    def test_all_exist_and_are_documented(self):
        for name in triode.__all__:
            assert getattr(triode, name) is not None
        assert set(triode.__all__) <= set(dir(triode))
        functions = [
            getattr(triode, name) for name in triode.__all__ if isinstance(getattr(triode, name), types.FunctionType)
        ]
        assert len(functions) == 8
        assert all("Raises:" in f.__doc__ or f.__name__ == "list_models" for f in functions)

    def test_unknown(self):
        with pytest.raises(AttributeError, match="no attribute 'compress'"):
            _ = triode.compress

    def test_errors_are_the_tree(self):
        assert issubclass(triode.TruncatedError, triode.BitstreamError)
        assert triode.LimitExceededError.exit_code == 4

    def test_import_is_light_and_registers_nothing(self):
        code = (
            "import sys, triode; triode.CodecError, triode.__version__, dir(triode), triode.DecodeLimits\n"
            "assert not {'torch', 'numpy', 'PIL', 'triode.adapters.pillow'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
        assert (done.returncode, done.stderr) == (0, "")


class TestBytes:
    @pytest.mark.parametrize(
        "image",
        [PIXELS, Image.fromarray(PIXELS), torch.from_numpy(PIXELS).permute(2, 0, 1), Picture(PIXELS)],
        ids=["numpy", "pil", "torch", "picture"],
    )
    def test_there_and_back(self, image):
        data = triode.encode(image, quality=60)
        assert isinstance(data, bytes)
        back = triode.decode(data)
        assert isinstance(back, Image.Image)
        assert np.array_equal(back, PIXELS)
        assert np.array_equal(triode.decode(io.BytesIO(data)), PIXELS)

    def test_metadata(self):
        image = Image.fromarray(PIXELS)
        tags = Image.Exif()
        tags[0x010F], tags[0x0112] = "Maker", 3
        image.info |= {"icc_profile": b"profile", "exif": tags.tobytes(), "xmp": b"<x/>"}
        back = triode.decode(triode.encode(image))
        assert np.array_equal(back, PIXELS[::-1, ::-1])
        assert (back.info["icc_profile"], back.info["xmp"]) == (b"profile", b"<x/>")
        assert dict(back.getexif()) == {0x010F: "Maker", 0x0112: 1}
        assert triode.decode(triode.encode(image, strip=True)).info == {}

    def test_targets_are_passed_on(self):
        assert triode.info(triode.encode(PIXELS, quality=100)).rate_points == (63,)
        with pytest.raises(triode.UnsupportedError, match="99 bytes cannot be met"):
            triode.encode(PIXELS, size=99)
        with pytest.raises(ValueError, match="at most one"):
            triode.encode(PIXELS, quality=50, bpp=1.0)
        assert triode.info(triode.encode(PIXELS, model="other.v1", psnr=30)).model == "other.v1"

    def test_wrong_images(self):
        with pytest.raises(TypeError, match=r"triode\.save"):
            triode.encode("photo.png")
        with pytest.raises(triode.UnsupportedError, match="convert=True"):
            triode.encode(Image.new("CMYK", (2, 2)))
        assert triode.decode(triode.encode(Image.new("CMYK", (2, 2)), convert=True)).size == (2, 2)

    def test_limits(self):
        data, limits = triode.encode(PIXELS), triode.DecodeLimits(max_pixels=53)
        for call in (triode.decode, triode.info, triode.verify):
            with pytest.raises(triode.LimitExceededError):
                call(data, limits=limits)

    def test_verify(self):
        data = triode.encode(PIXELS)
        assert triode.verify(data) == triode.verify(io.BytesIO(data)) == triode.info(data)
        with pytest.raises(triode.TruncatedError):
            triode.verify(data[:-1])


class TestFiles:
    def test_save_and_open(self, tmp_path):
        path = tmp_path / "a.tri"
        triode.save(path, PIXELS, quality=30)
        assert triode.info(path) == triode.info(str(path)) == triode.verify(path)
        with triode.open(path) as file:
            assert (file.info.width, file.info.height) == (9, 6)
            assert np.array_equal(file.read(), PIXELS)
            assert np.array_equal(file.read(), PIXELS)
        with pytest.raises(ValueError, match="closed"):
            file.read()
        assert list(tmp_path.iterdir()) == [path]

    def test_overwriting(self, tmp_path):
        path = tmp_path / "a.tri"
        triode.save(str(path), PIXELS)
        triode.save(path, PIXELS[:3])
        assert triode.info(path).height == 3
        with pytest.raises(FileExistsError):
            triode.save(path, PIXELS, overwrite=False)
        with pytest.raises(FileNotFoundError):
            triode.save(tmp_path / "none" / "a.tri", PIXELS)

    def test_failures_leave_nothing(self, tmp_path):
        with pytest.raises(RuntimeError):
            triode.save(tmp_path / "a.tri", PIXELS, model="crash.v1")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.filterwarnings("error::ResourceWarning")
    def test_broken_files(self, tmp_path):
        path = tmp_path / "a.tri"
        path.write_bytes(triode.encode(PIXELS)[:20])
        with pytest.raises(triode.TruncatedError):
            triode.open(path)
        with pytest.raises(triode.BitstreamError):
            triode.decode(b"\x89PNG\r\n\x1a\n")
        with pytest.raises(FileNotFoundError):
            triode.open(tmp_path / "none.tri")


@dataclass(frozen=True)
class Weights:
    name: str
    architecture: str
    media: str = "image"


class TestModels:
    @pytest.fixture
    def weights(self, monkeypatch):
        found = [Weights(f"{name}.v{n}", name) for name, n in [("light", 1), ("light", 2), ("wide", 9), ("wide", 10)]]
        loaded = {}

        def load_weights(name, kind):
            return loaded.setdefault(name, types.SimpleNamespace(model=torch.nn.Linear(1, 1)))

        module = types.ModuleType("triode.models.weights")
        vars(module).update(
            list_weights=lambda: tuple(found), load_weights=load_weights, default_weights=lambda media: "light.v1"
        )
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return loaded

    @pytest.mark.parametrize(
        ("name", "meant"),
        [("light", "light.v1"), ("wide", "wide.v10"), ("light.v2", "light.v2"), ("x.safetensors", "x.safetensors")],
    )
    def test_pretrained(self, weights, name, meant):
        model = triode.create_model(name, pretrained=True)
        assert list(weights) == [meant]
        assert model is not weights[meant].model, "the caller's own copy"
        assert torch.equal(model.weight, weights[meant].model.weight)

    def test_pretrained_is_not_changed(self, weights):
        with pytest.raises(ValueError, match="width"):
            triode.create_model("light", pretrained=True, width=3)

    def test_list_of_weights(self, weights):
        assert triode.list_models("light*", pretrained=True) == ["light.v1", "light.v2"]

    def test_architectures(self):
        assert "image-light" in triode.list_models()
        assert triode.list_models("no*such") == []
        assert isinstance(triode.create_model("image-light"), torch.nn.Module)
        with pytest.raises(triode.ModelMismatchError, match="Unknown model"):
            triode.create_model("none")
