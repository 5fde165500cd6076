import re
from dataclasses import fields
from pathlib import Path

import pytest

from triode.container.limits import DEFAULT_LIMITS, DecodeLimits
from triode.errors import LimitExceededError

NAMES = [field.name for field in fields(DecodeLimits)]
CHECKS = {
    "max_pixels": lambda limits, n: limits.check_pixels(n, 1),
    "max_units": lambda limits, n: limits.check_units(n),
    "max_chunks": lambda limits, n: limits.check_chunks(n),
    "max_chunk_bytes": lambda limits, n: limits.check_chunk_bytes(n, "DATA"),
    "max_metadata_bytes": lambda limits, n: limits.check_metadata_bytes(n),
    "max_model_name": lambda limits, n: limits.check_model_name(n),
    "max_frames": lambda limits, n: limits.check_frames(n),
    "max_samples": lambda limits, n: limits.check_samples(n),
    "max_channels": lambda limits, n: limits.check_channels(n),
    "max_memory_bytes": lambda limits, n: limits.check_memory_bytes(n, "the latents"),
}


def test_every_limit_has_a_check():
    assert list(CHECKS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_check_allows_the_bound_and_refuses_more(name):
    limits = DecodeLimits(**{name: 100})
    CHECKS[name](limits, 100)
    with pytest.raises(LimitExceededError, match=f"101.*{name}=100"):
        CHECKS[name](limits, 101)
    CHECKS[name](DecodeLimits.unlimited(), 10**30)


def test_pixels_are_an_area():
    limits = DecodeLimits(max_pixels=12)
    limits.check_pixels(3, 4)
    with pytest.raises(LimitExceededError, match="3 x 5 pixels = 15"):
        limits.check_pixels(3, 5)


def test_a_chunk_counts_as_memory():
    with pytest.raises(LimitExceededError, match="max_memory_bytes=10"):
        DecodeLimits(max_memory_bytes=10).check_chunk_bytes(11, "DATA")


@pytest.mark.parametrize("value", [-1, 1.5, "1", True])
def test_bounds_are_counts(value):
    with pytest.raises(ValueError, match="max_units must be"):
        DecodeLimits(max_units=value)


def test_strict_is_below_the_defaults_everywhere():
    strict = DecodeLimits.strict()
    for name in NAMES:
        default = getattr(DEFAULT_LIMITS, name)
        assert getattr(strict, name) is not None
        assert default is None or getattr(strict, name) <= default
    assert all(getattr(DecodeLimits.unlimited(), name) is None for name in NAMES)


def test_security_page_has_the_limits():
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(max_\w+)` \| (\w+) \| (\w+) \|", text, re.MULTILINE)

    def show(value):
        return "none" if value is None else str(value)

    strict = DecodeLimits.strict()
    assert rows == [(name, show(getattr(DEFAULT_LIMITS, name)), show(getattr(strict, name))) for name in NAMES]
