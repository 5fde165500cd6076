"""The guide to a codec of one's own: its model is trained, exported, and codes a file, as its commands say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from models.tiny import smooth_image
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "new-codec.md").read_text()
TRAIN = """
fit --config CONFIG --model.init_args.model blocks --model.init_args.config {"width":8,"latent":12}
--model.init_args.steps 3 --model.init_args.warmup 1 --data.init_args.folder PHOTOS --data.init_args.steps 3
--data.init_args.crop 64 --data.init_args.batch_size 2 --data.init_args.workers 0 --data.init_args.validation_crops 2
--trainer.max_steps 3 --trainer.accelerator cpu --trainer.precision 32
"""
RUN = """
import sys
from triode.cli.main import main
from triode.train.cli import train
train(sys.argv[1:])
for words in (
    ["export", "runs/image-light/small.safetensors", "-o", "blocks.v1.safetensors", "--quiet"],
    ["encode", "-m", "./blocks.v1.safetensors", "photo.png", "--verify", "--quiet"],
    ["decode", "-m", "./blocks.v1.safetensors", "photo.tri", "-o", "back.png", "--quiet"],
):
    assert main(words) == 0, words
"""


def test_the_guide(tmp_path):
    (tmp_path / "blocks.py").write_text(*re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        Image.fromarray(smooth_image(80, 96, seed=seed)).save(tmp_path / "photos" / f"{seed}.png")
    Image.fromarray(smooth_image(70, 53)).save(tmp_path / "photo.png")
    config = ROOT / "triode" / "train" / "configs" / "image-light.yaml"
    words = [{"CONFIG": str(config), "PHOTOS": "photos"}.get(word, word) for word in TRAIN.split()]
    env = {**os.environ, "TRIODE_MODELS": "blocks.py"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.asarray(Image.open(tmp_path / "back.png")).shape == (70, 53, 3)


def test_its_commands_are_those_of_the_test():
    for words in ("--model.init_args.model blocks", "-m ./blocks.v1.safetensors photo.png", "small.safetensors"):
        assert words in PAGE
