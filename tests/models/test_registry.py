import dataclasses
from dataclasses import dataclass

import pytest
from torch import nn

from triode.errors import ModelMismatchError
from triode.models import registry
from triode.models.base import ImageModel
from triode.models.image.image_light import ImageLight
from triode.models.registry import create_model, get_architecture, list_architectures, register_model

IMAGE = ["bmshj2018-factorized", "bmshj2018-hyperprior", "elic2022", "image-light", "mbt2018-mean"]
TINY = {"latent": 16, "hyper": 8, "fine": 8, "coarse": 8, "context": 8, "features": 12, "parameters": 8}


@pytest.fixture
def empty(monkeypatch):
    """A registry of its own for tests that register."""
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))


@dataclass(frozen=True)
class Config:
    width: int = 3


def test_lists_what_the_package_has():
    assert [name for name in list_architectures() if get_architecture(name).media == "image"] == IMAGE
    assert {"audio-light", "dac", "encodec", "snac"} <= set(list_architectures())
    assert list_architectures("*2018*") == ["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean"]
    assert list_architectures("nothing*") == []


@pytest.mark.parametrize("name", IMAGE)
def test_entries_are_complete(name):
    entry = get_architecture(name)
    assert (entry.name, entry.media) == (name, "image")
    config = entry.config()  # Every field has a default.
    assert dataclasses.is_dataclass(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 1)


def test_creates_with_changes():
    model = create_model("image-light", **TINY)
    assert isinstance(model, ImageLight)
    assert isinstance(model, ImageModel)
    assert (model.config.latent, model.config.anchors) == (16, 8)
    assert model.g_a.linear.weight.shape == (16, 3, 16, 16)


@pytest.mark.parametrize("name", ["image-heavy", "", "Image-Light", "../image-light"])
def test_unknown_name(name):
    with pytest.raises(ModelMismatchError, match=r"known are: .*bmshj2018-factorized"):
        create_model(name)


def test_unknown_option():
    with pytest.raises(ModelMismatchError, match=r"no option \['colour', 'depth'\]; it has \['anchors'"):
        create_model("image-light", depth=3, colour=1, latent=16)


@pytest.mark.usefixtures("empty")
def test_registers():
    @register_model("mine", Config, media="audio")
    def build(config):
        return nn.Linear(config.width, 1)

    assert build(Config(2)).in_features == 2
    assert "mine" in list_architectures()
    assert get_architecture("mine").media == "audio"
    assert create_model("mine", width=5).in_features == 5


@pytest.mark.usefixtures("empty")
def test_a_name_is_taken_once():
    list_architectures()
    with pytest.raises(ValueError, match="'image-light' is registered twice"):
        register_model("image-light", Config)(lambda c: nn.Identity())
    assert get_architecture("image-light").config is not Config
