import hashlib
import struct

import numpy as np
import pytest
import torch
from models.tiny import tiny_model
from models.tiny_audio import tone
from models.tiny_vq import tiny_vq
from torch import nn

from triode.entropy.exact.state import entropy_state
from triode.entropy.tables import CdfTables
from triode.models.weights.digest import (
    _TablePatternReader,
    entropy_digest,
    known_answer,
    synthesis_digest,
    tensor_digest,
)


@pytest.fixture(scope="module")
def model():
    net = tiny_model()
    net.export()
    return net


TENSORS = {"a": torch.arange(6).reshape(2, 3), "b": torch.tensor([0.5, -1.0])}


class TestTensorDigest:
    def test_is_sha256_of_names_types_shapes_and_bytes(self):
        """Streams and files hold digests: they may never change."""
        text = b"salt\na i8 (2, 3)\n" + struct.pack("<6q", *range(6)) + b"\nb f4 (2,)\n" + struct.pack("<2f", 0.5, -1)
        assert tensor_digest(TENSORS, "salt") == hashlib.sha256(text).digest()
        assert tensor_digest(dict(reversed(TENSORS.items())), "salt") == hashlib.sha256(text).digest()

    @pytest.mark.parametrize(
        "change",
        [
            {"a": torch.arange(6)},
            {"a": torch.arange(6).reshape(2, 3).int()},
            {"a": torch.arange(1, 7).reshape(2, 3)},
            {"b": torch.tensor([0.5, 1.0])},
            {"c": torch.zeros(0)},
        ],
    )
    def test_sees_every_change(self, change):
        assert tensor_digest({**TENSORS, **change}, "salt") != tensor_digest(TENSORS, "salt")

    def test_sees_names_and_salt(self):
        renamed = {"a": TENSORS["a"], "c": TENSORS["b"]}
        assert tensor_digest(renamed, "salt") != tensor_digest(TENSORS, "salt")
        assert tensor_digest(TENSORS, "pepper") != tensor_digest(TENSORS, "salt")

    def test_memory_layout_does_not_matter(self):
        x = torch.rand(2, 3, 4, 5)
        strided = x.contiguous(memory_format=torch.channels_last)
        assert tensor_digest({"x": x}, "") == tensor_digest({"x": strided}, "")
        assert tensor_digest({"x": nn.Parameter(x)}, "") == tensor_digest({"x": x}, "")


class TestModelDigests:
    def test_entropy_digest_covers_the_integers_only(self, model):
        before = entropy_digest(model, ""), synthesis_digest(model, "")
        for name, tensor in entropy_state(model).items():
            if tensor.numel():
                tensor.flatten()[0] += 1
                assert entropy_digest(model, "") != before[0], name
                assert synthesis_digest(model, "") == before[1], name
                tensor.flatten()[0] -= 1
        assert (entropy_digest(model, ""), synthesis_digest(model, "")) == before

    def test_synthesis_digest_covers_the_floats_only(self, model):
        before = entropy_digest(model, ""), synthesis_digest(model, "")
        for name, parameter in list(model.named_parameters())[::7]:
            with torch.no_grad():
                parameter.view(-1)[0] += 1
                assert entropy_digest(model, "") == before[0], name
                assert synthesis_digest(model, "") != before[1], name
                parameter.view(-1)[0] -= 1

    def test_synthesis_digest_sees_what_a_file_holds(self, model):
        before = synthesis_digest(model, "")
        rounded = tiny_model()
        with torch.no_grad():
            for parameter in rounded.parameters():
                parameter.copy_(parameter.half())
        rounded.export()
        assert synthesis_digest(rounded, "") == before


class TestKnownAnswer:
    def test_repeats(self, model):
        assert known_answer(model) == known_answer(model)
        assert 0 <= known_answer(model) < 1 << 32

    def test_threads_and_autocast_do_not_matter(self, model):
        expected, threads = known_answer(model), torch.get_num_threads()
        try:
            torch.set_num_threads(2 if threads == 1 else 1)
            assert known_answer(model) == expected
        finally:
            torch.set_num_threads(threads)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert known_answer(model) == expected

    def test_other_integers_give_another_answer(self, model):
        assert known_answer(model) != known_answer(exported(1))
        expected = known_answer(model)
        seen = 0
        for name, tensor in entropy_state(model).items():
            # Masses do not matter as no stream is read; nor do table sizes.
            if "tables" not in name:
                original = tensor.clone()
                tensor += -1 if "shift" in name else 50
                seen += known_answer(model) != expected
                tensor.copy_(original)
                clear_caches(model)
        assert seen >= 20
        assert known_answer(model) == expected


def exported(seed):
    net = tiny_model(seed)
    net.export()
    return net


def clear_caches(model):
    """Exact layers keep their weights as floats: move them, so that they are made anew."""
    model.to(torch.device("cpu"))


class TestKnownAnswerOfCodes:
    """Codes have no escapes: symbols are drawn by the tables' masses, and every one of them is a code."""

    @pytest.mark.parametrize("changes", [{}, {"prior": "context", "prior_width": 4, "prior_hidden": 4}])
    def test_sees_the_tables(self, changes):
        net = tiny_vq("dac", codebook_size=100, **changes)
        net.fit_prior([tone(4000, i) for i in range(2)])
        net.export()
        before = known_answer(net)
        assert known_answer(net) == before
        again = tiny_vq("dac", codebook_size=100, **changes)
        again.fit_prior([tone(4000, i + 5) for i in range(2)])
        again.export()
        assert known_answer(again) != before

    def test_codes_are_drawn_by_their_probability(self):
        tables = CdfTables.from_pmfs([np.array([0.5, 0.25, 0.0, 0.25, 0.0])], [3])
        symbols = _TablePatternReader().read(np.zeros(4000, np.int32), tables)
        shares = np.bincount(symbols, minlength=8)[3:] / 4000
        assert shares.tolist() == pytest.approx([0.5, 0.25, 0, 0.25, 0], abs=0.03)
