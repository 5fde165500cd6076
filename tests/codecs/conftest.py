from __future__ import annotations

from collections.abc import Iterator

import pytest
from models.tiny import save_tiny

from triode.codecs.image import ImageCodec
from triode.models.weights import WeightsInfo


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> WeightsInfo:
    """A tiny model's weights, in a folder of their own."""
    return save_tiny(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session", autouse=True)
def _home(weights: WeightsInfo) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIODE_HOME", str(weights.path.parent))
        yield


@pytest.fixture(scope="session")
def codec(weights: WeightsInfo) -> ImageCodec:
    return ImageCodec(weights.name)
