import numpy as np
import pytest

from triode.errors import UnsupportedError
from triode.eval import coder as registry
from triode.eval.coder import Coder, CoderFacts, FunctionCoder, create_coder, list_coders, register_coder

IMAGE = {"triode", "jpeg", "webp", "avif", "jpeg2000", "jxl", "heic", "vvc", "compressai"}


@pytest.fixture
def empty(monkeypatch):
    """A registry of its own, with no modules behind it."""
    monkeypatch.setattr(registry, "_MODULES", ())
    monkeypatch.setattr(registry, "_CODERS", {})


def function_coder(**changes):
    given = {
        "encode": lambda item, q: bytearray([int(q)]),
        "decode": lambda data: np.full((1, 1, 3), data[0], np.uint8),
    }
    return FunctionCoder("mine", **{**given, "qualities": [1, 2.5], **changes})


class TestFunctionCoder:
    def test_calls_the_functions(self):
        coder = function_coder()
        data = coder.encode(np.zeros((1, 1, 3), np.uint8), 7)
        assert (data, type(data)) == (b"\x07", bytes)
        assert coder.decode(data).tolist() == [[[7, 7, 7]]]

    def test_says_what_it_was_told(self):
        coder = function_coder(media="audio")
        assert (coder.name, coder.media, coder.qualities) == ("mine", "audio", (1, 2.5))
        assert coder.facts() == CoderFacts("mine", kind="custom")
        facts = CoderFacts("Mine, version 2", parameters=3)
        assert function_coder(facts=facts).facts() is facts

    def test_defaults(self):
        coder = function_coder()
        assert coder.media == "image"
        assert coder.payload_bytes(b"12345") == 5
        assert coder.parts(b"12345") == {}
        coder.close()


class TestRegistry:
    def test_builds_with_the_options(self, empty):
        @register_coder("mine", "image", "audio")
        def build(options):
            return function_coder(media=options["media"], qualities=[float(options.get("q", 1))])

        assert list_coders("image") == list_coders("audio") == ("mine",)
        assert list_coders("video") == ()
        assert create_coder("mine", "audio").media == "audio"
        assert create_coder("mine:q=2", "image").qualities == (2.0,)

    def test_splits_options_at_commas_and_the_first_equals_sign(self, empty):
        seen = []
        register_coder("mine", "image")(lambda options: seen.append(dict(options)) or function_coder())
        create_coder("mine:a=4:2:0,b=x=y,,c=", "image")
        create_coder("mine:", "image")
        assert seen == [{"a": "4:2:0", "b": "x=y", "c": "", "media": "image"}, {"media": "image"}]

    def test_names_are_taken_once_a_medium(self, empty):
        register_coder("mine", "image")(lambda options: function_coder())
        register_coder("mine", "audio")(lambda options: function_coder())
        with pytest.raises(ValueError, match="named 'mine' is registered already for image"):
            register_coder("mine", "video", "image")(lambda options: function_coder())

    def test_unknown_names_and_shapeless_options(self, empty):
        register_coder("mine", "image")(lambda options: function_coder())
        with pytest.raises(ValueError, match="Unknown codec 'theirs' for image; there are mine"):
            create_coder("theirs", "image")
        with pytest.raises(ValueError, match="Unknown codec 'mine' for audio"):
            create_coder("mine", "audio")
        with pytest.raises(ValueError, match="name:option=value, but got 'mine:fast'"):
            create_coder("mine:fast", "image")


def test_there_are_the_image_coders():
    assert set(list_coders("image")) >= IMAGE


@pytest.mark.parametrize("name", sorted(IMAGE))
def test_every_image_coder(name):
    """It refuses options that it does not know, and can be told from others."""
    try:
        coder = create_coder(name, "image")
    except UnsupportedError as error:
        pytest.skip(str(error))
    assert isinstance(coder, Coder)
    assert coder.media == "image"
    assert set(coder.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert len(set(coder.qualities)) == len(coder.qualities) > 0
    with pytest.raises(ValueError, match="no option 'no-such'; it has: "):
        create_coder(f"{name}:no-such=1", "image")
