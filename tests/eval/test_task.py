"""One task of a bench: what is measured, what is not, and that nothing that goes wrong gets out."""

import io
import mmap
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from eval.bench_codecs import BREAKS, INFINITE, REFUSES, Bits, photo
from PIL import Image

from triode.eval.memory import MemoryMeter
from triode.eval.samples import detailed_window, sample_bytes
from triode.eval.sources import CodecSource, ItemSource, check_item
from triode.eval.task import Setup, Task, Worker, describe_failure
from triode.media import Clip, Sound

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured on Linux")


def worker(*coders, items=None, metrics=("psnr",), seed=0):
    items = [photo(0), photo(1)] if items is None else items
    return Worker(
        Setup(
            tuple(ItemSource(f"item{place}", "image", item=item) for place, item in enumerate(items)),
            tuple(CodecSource(coder, "image", coder.name) for coder in coders),
            tuple(metrics),
            seed,
        )
    )


def psnr(a, b):
    return -10 * np.log10(np.mean((a.astype(float) - b) ** 2) / 255**2)


class TestMeasurement:
    def test_all_of_it(self):
        coder, original = Bits(), photo()
        data = coder.encode(original, 4)
        found = worker(coder).run(Task(0, 0, 4.0, "samples/a.png", "key"))
        m = found.measurement
        assert (m.item, m.codec, m.quality, m.error) == ("item0", "bits", 4.0, None)
        assert (m.bytes, m.payload_bytes, m.parts) == (len(data), len(data) - 5, {"header": 5, "y": len(data) - 5})
        assert m.metrics == {"psnr": pytest.approx(psnr(coder.decode(data), original), abs=1e-6)}
        assert 0 < m.encode_seconds + m.decode_seconds <= found.seconds
        assert m.sample == "samples/a.png"
        sample = np.asarray(Image.open(io.BytesIO(found.sample)))
        assert sample.tobytes() == coder.decode(data)[detailed_window(original @ [0.2126, 0.7152, 0.0722])].tobytes()

    def test_warms_up_once_a_quality_with_a_piece(self, tmp_path):
        found = worker(Bits(log=tmp_path / "log"))
        for item, quality in ((0, 2.0), (1, 2.0), (0, 4.0)):
            assert found.run(Task(item, 0, quality)).measurement.error is None
        lines = [line.split()[::2] for line in (tmp_path / "log").read_text().splitlines()]
        assert lines == [["piece", "2"], ["whole", "2"], ["whole", "2"], ["piece", "4"], ["whole", "4"]]

    def test_a_coder_may_write_into_its_input(self):
        clean, scribbled = (
            [found.run(Task(0, 0, quality)).measurement.metrics for quality in (2.0, 4.0)]
            for found in (worker(Bits()), worker(Bits(trouble="scribble")))
        )
        assert clean == scribbled

    def test_random_choices_depend_on_the_task_alone(self):
        tasks = [Task(0, 0, 2.0), Task(1, 0, 2.0), Task(0, 0, 4.0)]

        def sizes(order, seed=0):
            coder = Bits(trouble="draw")
            datas = []
            encode = coder.encode
            coder.encode = lambda item, quality: datas.append(encode(item, quality)) or datas[-1]
            found = worker(coder, seed=seed)
            sizes = {}
            for task in order:
                found.run(task)
                sizes[task] = datas[-1]
            return sizes

        forward = sizes(tasks)
        assert forward == sizes(tasks[::-1])
        assert len({data[-40:] for data in forward.values()}) == 3
        assert forward != sizes(tasks, seed=1)

    def test_one_thread(self):
        coder, threads = Bits(), []
        encode = coder.encode
        coder.encode = lambda item, quality: threads.append(torch.get_num_threads()) or encode(item, quality)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(3)
            worker(coder).run(Task(0, 0, 2.0))
        finally:
            torch.set_num_threads(before)
        assert threads[-1] == 1

    def test_metrics_that_cannot_measure_are_noted(self):
        found = worker(Bits(), metrics=("psnr", REFUSES, INFINITE)).run(Task(0, 0, 4.0))
        assert found.notes == ("refuses is not measured: too small",)
        assert set(found.measurement.metrics) == {"psnr", "infinite"}
        assert np.isnan(found.measurement.metrics["infinite"])

    def test_parts_that_do_not_sum_are_left_out(self):
        found = worker(Bits(trouble="parts")).run(Task(0, 0, 4.0))
        assert (found.measurement.parts, found.measurement.error) == ({}, None)
        assert "the parts sum to" in found.notes[0]

    def test_coders_made_elsewhere_are_not_closed(self):
        coder = Bits()
        found = worker(coder)
        found.run(Task(0, 0, 4.0))
        found.close()
        assert coder.closed == 0


class TestFailures:
    @pytest.mark.parametrize(
        ("trouble", "error"),
        [
            ("raise", "RuntimeError: no luck at all"),
            ("exit", "SystemExit: 3"),
            ("text", "TypeError: A coder's `encode` must return bytes, but returned str"),
            ("empty", "ValueError: A coder's `encode` must return at least one byte"),
            ("crop", "ValueError: What was decoded has the shape (40, 299, 3), but the original has (40, 300, 3)"),
            ("float", "ValueError: What was decoded is of the wrong kind: An image must be an array (H, W, 3) uint8"),
            ("none", "ValueError: What was decoded is of the wrong kind"),
        ],
    )
    def test_of_a_coder(self, trouble, error):
        found = worker(Bits(trouble=trouble))
        m = found.run(Task(0, 0, 4.0, "samples/a.png")).measurement
        assert m.error.startswith(error)
        assert (m.bytes, m.encode_seconds, m.metrics, m.sample) == (0, 0, {}, None)
        assert found.run(Task(0, 0, 2.0)).measurement.error is None, "the next one works"

    def test_of_a_metric(self):
        m = worker(Bits(), metrics=("psnr", BREAKS)).run(Task(0, 0, 4.0)).measurement
        assert (m.error, m.bytes, m.metrics) == ("RuntimeError: metric broke", 0, {})

    def test_of_an_item(self, tmp_path):
        path = tmp_path / "broken.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
        source = ItemSource("broken", "image", path)
        setup = Setup((source,), (CodecSource(Bits(), "image", "bits"),), ("psnr",))
        m = Worker(setup).run(Task(0, 0, 4.0)).measurement
        assert m.error
        assert str(tmp_path) not in m.error

    def test_interruptions_are_none(self):
        coder = Bits()

        def encode(item, quality):
            raise KeyboardInterrupt

        coder.encode = encode
        with pytest.raises(KeyboardInterrupt):
            worker(coder).run(Task(0, 0, 4.0))

    def test_messages_are_short_and_without_folders(self, tmp_path):
        error = OSError(f"cannot open '{tmp_path / 'a.png'}'" + "!" * 1000)
        text = describe_failure(error, tmp_path / "a.png")
        assert text.startswith("OSError: cannot open 'a.png'!!!")
        assert len(text) < 510


@linux
class TestMemory:
    def test_of_this_process(self):
        fresh = mmap.mmap(-1, 40 << 20)  # An array could lie where tests before it left memory.
        with MemoryMeter() as meter:
            np.frombuffer(fresh, np.uint8).fill(1)
        assert 39 << 20 < meter.peak < 60 << 20
        with MemoryMeter() as meter:
            pass
        assert meter.peak < 10 << 20

    def test_of_a_program_that_it_runs(self):
        with MemoryMeter() as meter:
            code = "import time; x = b'1' * (90 << 20); time.sleep(0.3)"
            subprocess.run([sys.executable, "-c", code], check=True)
        assert meter.peak > 85 << 20

    def test_elsewhere(self, monkeypatch, tmp_path):
        monkeypatch.setattr("triode.eval.memory._PROC", tmp_path)
        with MemoryMeter() as meter:
            pass
        assert meter.peak is None


class TestSamples:
    @pytest.mark.parametrize(("height", "width", "side"), [(60, 90, 32), (20, 50, 32), (33, 32, 32)])
    def test_window_is_the_most_detailed(self, height, width, side):
        rng = np.random.default_rng(height)
        plane = rng.normal(size=(height, width)) * rng.random((height, 1)) * rng.random((1, width))
        down, right = np.zeros_like(plane), np.zeros_like(plane)
        down[:-1], right[:, :-1] = np.diff(plane, axis=0) ** 2, np.diff(plane, axis=1) ** 2
        h, w = min(side, height), min(side, width)
        places = [
            (top, left)
            for top in sorted({*range(0, height - h + 1, 16), height - h})
            for left in sorted({*range(0, width - w + 1, 16), width - w})
        ]
        best = max(places, key=lambda place: (down + right)[place[0] : place[0] + h, place[1] : place[1] + w].sum())
        rows, columns = detailed_window(plane, side)
        assert (rows, columns) == (slice(best[0], best[0] + h), slice(best[1], best[1] + w))

    def test_sound_is_the_loudest_ten_seconds(self):
        soundfile = pytest.importorskip("soundfile")
        rate = 8000
        samples = np.random.default_rng(0).uniform(-0.1, 0.1, (2, 14 * rate)).astype(np.float32)
        samples[:, 3 * rate : 13 * rate] *= 5
        sound = Sound(samples, rate)
        found, found_rate = soundfile.read(io.BytesIO(sample_bytes(sound, sound)), dtype="float32")
        assert (found.shape, found_rate) == ((10 * rate, 2), rate)
        np.testing.assert_allclose(found.T, samples[:, 3 * rate : 13 * rate], atol=1 / 32768)
        short = Sound(samples[:1, :100].copy(), rate)
        assert len(soundfile.read(io.BytesIO(sample_bytes(short, short)))[0]) == 100

    @pytest.mark.parametrize("matrix", ["bt601", "bt709"])
    @pytest.mark.parametrize("full_range", [False, True])
    def test_clip_is_its_middle_frame_in_rgb(self, matrix, full_range):
        # Forward equations of the standards, on one flat colour, of odd size.
        red, green, blue = 0.8, 0.3, 0.45
        kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
        luma = kr * red + (1 - kr - kb) * green + kb * blue
        cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
        scale, chroma, offset = (255, 255, 0) if full_range else (219, 224, 16)
        values = (scale * luma + offset, chroma * cb + 128, chroma * cr + 128)
        shapes = ((3, 5, 7), (3, 3, 4), (3, 3, 4))
        planes = [np.full(shape, round(value), np.uint8) for value, shape in zip(values, shapes, strict=True)]
        planes[0][[0, 2]] = 0
        clip = Clip(*planes, Fraction(25), matrix, full_range)
        pixels = np.asarray(Image.open(io.BytesIO(sample_bytes(clip, clip))))
        assert pixels.shape == (5, 7, 3)
        np.testing.assert_allclose(pixels, np.broadcast_to([204, 76.5, 114.75], pixels.shape), atol=2)


@pytest.mark.parametrize(
    ("item", "media"),
    [
        (np.zeros((4, 4), np.uint8), "image"),
        (np.zeros((4, 4, 4), np.uint8), "image"),
        (np.zeros((0, 4, 3), np.uint8), "image"),
        (np.zeros((4, 4, 3), np.float32), "image"),
        (photo(), "audio"),
        (Sound(np.zeros((1, 9), np.float32), 8000), "video"),
        (Path("a.png"), "image"),
    ],
)
def test_what_is_no_item(item, media):
    with pytest.raises(ValueError, match="must"):
        check_item(item, media)
