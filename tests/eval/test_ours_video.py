"""The codec of video on the bench: as a coder, as an item, in `triode compare`, and with what each frame takes."""

import hashlib
import json
import math
from itertools import pairwise

import numpy as np
import pytest
from eval.anchors.pictures import check_parts
from models.tiny import save_tiny
from models.tiny_video import moving_clip, tiny_video

from triode.cli.main import main
from triode.codecs.video import VideoCodec
from triode.errors import BitstreamError, ModelMismatchError, UnsupportedError
from triode.eval import bench
from triode.eval.anchors.common import torch_threads
from triode.eval.coder import create_coder, list_coders
from triode.eval.items import guess_media, item_facts, load_item
from triode.eval.ours_video import TriodeVideoCoder
from triode.eval.results import Results
from triode.eval.tables import speed_markdown
from triode.eval.task import frame_psnr
from triode.io.video_writing import write_clip

NAME = "tiny.v1"
CLIP = moving_clip(6, 40, 28, matrix="bt601")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("weights"), name=NAME)


@pytest.fixture(scope="module")
def coder(weights):
    return create_coder(f"triode:model={weights.path},gop=4", "video")


@pytest.fixture
def home(weights, monkeypatch):
    monkeypatch.setenv("TRIODE_HOME", str(weights.path.parent))


class TestCoder:
    def test_codes_better_with_more_bytes(self, coder):
        sizes, errors = [], []
        for quality in coder.qualities:
            data = coder.encode(CLIP, quality)
            decoded = coder.decode(data)
            assert (decoded.y.shape, decoded.rate) == (CLIP.y.shape, CLIP.rate)
            check_parts(coder, data)
            sizes.append(len(data))
            errors.append(np.square(decoded.y.astype(float) - CLIP.y).mean())
        assert all(a < b for a, b in pairwise(sizes)), sizes
        assert errors[0] > errors[-1]

    def test_is_the_codec_that_users_have(self, coder, weights):
        with torch_threads(1):
            encoded = VideoCodec(str(weights.path), gop=4).encode(CLIP, quality=30)
        assert coder.encode(CLIP, 30) == encoded.data
        assert coder.payload_bytes(encoded.data) == encoded.payload_bytes
        assert sum(coder.frame_bytes(encoded.data)) == encoded.frame_bytes
        assert coder.parts(encoded.data)["intra"] == encoded.frame_bytes
        assert len(coder.frame_bytes(encoded.data)) == 6

    def test_frames_that_look_at_others(self, coder):
        """Parts say what each kind of frame takes."""
        data = VideoCodec(tiny_video(), gop=6).encode(CLIP, quality=30).data
        parts = coder.parts(data)
        assert list(parts) == ["header", "index", "intra", "inter", "refresh"]
        sizes = coder.frame_bytes(data)
        assert (parts["intra"], parts["refresh"]) == (sizes[0], sizes[4])
        assert sum(parts.values()) == len(data)

    def test_a_rate(self, weights):
        coder = create_coder(f"triode:model={weights.path},target=kbps,scenes=no", "video")
        assert coder.name == f"{NAME}-kbps"
        data = coder.encode(CLIP, 200.0)
        assert 8 * len(data) / 1000 / CLIP.seconds <= 200
        with pytest.raises(UnsupportedError, match="cannot be met"):
            coder.encode(CLIP, 0.5)

    def test_refusals(self, coder, weights):
        for item in (CLIP.y, "clip", None):
            with pytest.raises(ValueError, match="must be a Clip"):
                coder.encode(item, 50)
        with pytest.raises(ValueError, match="Quality"):
            coder.encode(CLIP, 101)
        for options in ("gop=0", "target=size", "scenes=maybe", "effort=low"):
            with pytest.raises(ValueError, match=options.split("=")[0]):
                create_coder(f"triode:model={weights.path},{options}", "video")
        with pytest.raises(ModelMismatchError):
            create_coder("triode:model=none.v1", "video")
        with pytest.raises(BitstreamError):
            coder.decode(coder.encode(CLIP, 10)[:-20])

    def test_facts(self, coder, weights):
        assert (list_coders("video")[0], coder.name) == ("triode", f"{NAME}-gop4")
        facts = coder.facts()
        assert (facts.title, facts.kind) == (f"Triode {NAME}, frame by frame", "learned")
        assert facts.digest == hashlib.sha256(weights.path.read_bytes()).hexdigest()
        assert facts.options["gop"] == 4
        assert isinstance(create_coder("triode", "video"), TriodeVideoCoder)


class TestItems:
    @pytest.fixture
    def file(self, tmp_path, coder, home):
        path = tmp_path / "a.tri"
        path.write_bytes(coder.encode(CLIP, 70))
        return path

    def test_are_decoded(self, file):
        item = load_item(file)
        assert np.array_equal(item.y, VideoCodec().decode(file.read_bytes()).y)
        assert guess_media(file) == "video"
        facts = item_facts(file, item)
        assert (facts.units, facts.shape, facts.raw_bytes) == (0.24, (40, 28, 6), 6 * 40 * 28 * 3 // 2)
        with pytest.raises(UnsupportedError, match="holds video, where image"):
            load_item(file, "image")

    def test_compare(self, tmp_path, file, capsys):
        pytest.importorskip("av")
        write_clip(tmp_path / "a.y4m", CLIP)
        assert main(["compare", str(tmp_path / "a.y4m"), str(file), "--json", "--metrics", "video-psnr-y"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["media"] == "video"
        assert found["kbps"] == pytest.approx(8 * file.stat().st_size / 240, rel=1e-6)
        assert found["metrics"]["video-psnr-y"] == pytest.approx(np.mean(frame_psnr(load_item(file), CLIP)), abs=0.5)


def test_on_the_bench(tmp_path, coder):
    results = bench(
        "video",
        [("a", CLIP)],
        [coder],
        qualities=[10, 80],
        metrics=["video-psnr-y"],
        out=tmp_path / "out",
        samples=0,
        report=False,
    )
    assert [m.error for m in results.measurements] == [None, None]
    for m in results.measurements:
        data = coder.encode(CLIP, m.quality)
        assert (m.bytes, m.frame_bytes) == (len(data), coder.frame_bytes(data))
        assert np.allclose(m.frame_psnr, frame_psnr(coder.decode(data), CLIP), atol=1e-3)
    back = Results.load(tmp_path / "out" / "results.json")
    assert [m.frame_bytes for m in back.measurements] == [m.frame_bytes for m in results.measurements]
    text = speed_markdown(results)
    assert "encode frames/s" in text
    [row] = [line for line in text.splitlines() if NAME in line]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert float(cells[4]) == pytest.approx(6 / float(cells[2]), rel=0.02)


def test_quality_of_frames():
    same = frame_psnr(CLIP, CLIP)
    assert same == (100.0,) * 6
    other = moving_clip(6, 40, 28, seed=3)
    wanted = [
        10 * math.log10(255**2 / np.square(a.astype(float) - b).mean()) for a, b in zip(CLIP.y, other.y, strict=True)
    ]
    assert np.allclose(frame_psnr(other, CLIP), wanted)
