"""Groups of pictures on a Ray of this machine."""

import sys

import pytest
from models.tiny import save_tiny
from models.tiny_video import moving_clip

from triode.codecs.video import VideoCodec
from triode.errors import UnsupportedError


def test_needs_ray(monkeypatch):
    from triode.adapters.ray import RayEngine

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnsupportedError, match=r"triode\[ray\]"):
        RayEngine()
    with pytest.raises(ValueError, match="must be positive"):
        RayEngine(0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_makes_the_same_file(tmp_path):
    ray = pytest.importorskip("ray")
    from triode.adapters.ray import RayEngine
    from triode.eval.ray_engine import ray_cluster

    with pytest.raises(UnsupportedError, match="not started"):
        RayEngine()
    clip, weights = moving_clip(9, scenes=[5]), str(save_tiny(tmp_path).path)
    with ray_cluster(None, 1):
        found = VideoCodec(weights, gop=4, engine=RayEngine(2)).encode(clip)
    assert not ray.is_initialized()
    assert found.data == VideoCodec(weights, gop=4).encode(clip).data
