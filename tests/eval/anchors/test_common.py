import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triode.errors import BitstreamError
from triode.eval.anchors.common import box_payload, container_parts, package_version, torch_threads
from triode.eval.anchors.options import Options


def box(kind, content, large=False):
    if large:
        return b"\0\0\0\1" + kind + (len(content) + 16).to_bytes(8, "big") + content
    return (len(content) + 8).to_bytes(4, "big") + kind + content


@given(st.lists(st.tuples(st.sampled_from([b"mdat", b"ftyp", b"free"]), st.binary(max_size=20), st.booleans())))
def test_box_payload(boxes):
    data = b"".join(box(*entry) for entry in boxes)
    assert box_payload(data, b"mdat") == sum(len(content) for kind, content, _ in boxes if kind == b"mdat")


def test_last_box_may_reach_to_the_end():
    assert box_payload(box(b"ftyp", b"x") + b"\0\0\0\0mdat12345", b"mdat") == 5


@pytest.mark.parametrize("data", [b"\0\0\0\7mdat", b"\0\0\1\0mdat", b"abc", b"\0\0\0\1mdat" + bytes(8)])
def test_boxes_that_do_not_fit(data):
    with pytest.raises(BitstreamError):
        box_payload(data, b"mdat")


def test_parts_sum():
    assert container_parts(10, 7) == {"header": 3, "payload": 7}


def test_versions():
    assert package_version("numpy")[0].isdigit()
    assert package_version("no-such-package-here") == "unknown"


def fail_in_threads(count):
    assert torch.get_num_threads() == count
    raise RuntimeError


def test_threads_are_set_back():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), torch_threads(before + 1):
        fail_in_threads(before + 1)
    assert torch.get_num_threads() == before


class TestOptions:
    def test_reads_each_kind(self):
        options = Options("x", {"media": "image", "a": "3", "b": "0.5", "c": "two", "d": "yes", "e": "free"})
        assert options.integer("a", 1, 0, 5) == 3
        assert options.number("b", 1, 0, 1) == 0.5
        assert options.choice("c", "one", ("one", "two")) == "two"
        assert options.flag("d", default=False)
        assert options.text("e", "") == "free"
        options.done()

    def test_defaults(self):
        options = Options("x", {})
        found = (options.integer("a", 1, 0, 5), options.number("b", 0.25, 0, 1), options.choice("c", "one", ("one",)))
        assert found == (1, 0.25, "one")
        assert options.flag("d", default=True)
        assert options.text("e", "default") == "default"
        options.done()

    @pytest.mark.parametrize("value", ["6", "-1", "1.5", "", "x", "nan"])
    def test_integers_are_checked(self, value):
        with pytest.raises(ValueError, match=f"Option `a` of x must be an integer in 0..5, but got '{value}'"):
            Options("x", {"a": value}).integer("a", 1, 0, 5)

    @pytest.mark.parametrize("value", ["1.1", "nan", "inf", "", "x"])
    def test_numbers_are_checked(self, value):
        with pytest.raises(ValueError, match=r"a number in 0\.\.1"):
            Options("x", {"a": value}).number("a", 1, 0, 1)

    def test_words_are_checked(self):
        with pytest.raises(ValueError, match="one of one, two, but got 'three'"):
            Options("x", {"a": "three"}).choice("a", "one", ("one", "two"))
        with pytest.raises(ValueError, match="one of no, yes"):
            Options("x", {"a": "true"}).flag("a", default=True)
        with pytest.raises(ValueError, match="a word, but got ''"):
            Options("x", {"a": ""}).text("a", "b")

    def test_what_nobody_asked_for_is_refused(self):
        options = Options("x", {"a": "1", "speed": "2"})
        options.integer("a", 1, 0, 5)
        with pytest.raises(ValueError, match="Codec x has no option 'speed'; it has: a"):
            options.done()
        with pytest.raises(ValueError, match="it has: none"):
            Options("x", {"a": "1"}).done()
