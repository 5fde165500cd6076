import contextlib
import json
import socket
import struct
from dataclasses import replace

import pytest
import torch
from models.tiny import NAME, TINY, save_tiny, tiny_model
from models.tiny_audio import tiny_sound_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from triode.entropy.exact.state import entropy_state
from triode.errors import ModelMismatchError
from triode.models.registry import create_model
from triode.models.video.intra import Intra
from triode.models.weights import (
    Base,
    Pretrained,
    catalogue,
    default_weights,
    files,
    find_weights,
    list_weights,
    load_weights,
    read_info,
    save_weights,
    tensors,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """An empty package folder, and no $TRIODE_HOME; a test may fill both."""
    package, home = tmp_path / "package", tmp_path / "home"
    package.mkdir()
    home.mkdir()
    monkeypatch.setattr(catalogue, "__file__", str(package / "catalogue.py"))
    monkeypatch.delenv("TRIODE_HOME", raising=False)
    return package, home


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_, **__):
        pytest.fail("weights were looked for on a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def content(path):
    with safe_open(str(path), "pt") as f:
        return load_file(path), json.loads(f.metadata()["triode"])


def rewrite(path, tensors, meta):
    save_file(tensors, str(path), {"triode": json.dumps(meta)})
    return str(path)


class TestRoundTrip:
    def test_digests_and_answer(self, saved):
        loaded = load_weights(str(saved.path))
        assert isinstance(loaded, Pretrained)
        assert loaded.info == saved
        assert loaded.model.config == TINY
        assert not loaded.model.training
        assert not any(p.requires_grad for p in loaded.model.parameters())
        assert read_info(saved.path) == saved
        assert (saved.name, saved.media, saved.architecture) == (NAME, "image", "image-light")
        assert saved.parameters == sum(p.numel() for p in tiny_model().parameters())
        assert saved.bytes == saved.path.stat().st_size

    def test_tensors(self, saved):
        model = tiny_model()
        expected = save_weights(model, saved.path.parent / "x", name="x", architecture="image-light")
        loaded = load_weights(str(saved.path)).model
        assert expected.entropy_digest == saved.entropy_digest
        for name, tensor in model.state_dict().items():  # The model that was saved is what a file gives.
            assert torch.equal(loaded.state_dict()[name], tensor), name

    def test_floats_take_16_bits_at_most(self, saved):
        tensors, meta = content(saved.path)
        kinds = {t.dtype for name, t in tensors.items() if not name.endswith("_scale")}
        assert kinds >= {torch.float16, torch.uint8}
        assert not kinds & {torch.float32, torch.float64, torch.bfloat16}
        assert {name.removesuffix(".q12") for name in tensors if name.endswith(".q12")} == set(meta["packed"])

    def test_files_of_format_1_are_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tensors, "_LEAST", 1 << 60)
        info = save_tiny(tmp_path)
        halves, meta = content(info.path)
        assert not any(name.endswith(".q12") for name in halves)
        older = {k: v for k, v in meta.items() if k not in {"packed", "base", "derived"}} | {"format": 1}
        assert load_weights(rewrite(info.path, halves, older)).info.synthesis_digest == info.synthesis_digest

    @pytest.mark.parametrize("least", [1, 1 << 60])
    def test_integer_weights_are_left_out_where_floats_give_them(self, saved, tmp_path, monkeypatch, least):
        monkeypatch.setattr(files, "_LEAST_DERIVED", least)
        info = save_tiny(tmp_path)
        there, meta = content(info.path)
        state = entropy_state(load_weights(str(saved.path)).model)
        weights = {name for name, t in state.items() if t.dtype == torch.int16}
        assert set(meta["derived"]) == (weights if least == 1 else set())
        assert weights & set(there) == weights - set(meta["derived"])
        loaded = load_weights(str(info.path))
        digests = ("entropy_digest", "synthesis_digest", "known_answer")
        assert all(getattr(loaded.info, digest) == getattr(saved, digest) for digest in digests)

    def test_files_of_format_2_are_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "_LEAST_DERIVED", 1 << 60)
        info = save_tiny(tmp_path)
        there, meta = content(info.path)
        del meta["derived"]
        older = rewrite(info.path, there, meta | {"format": 2})
        assert load_weights(older).info.synthesis_digest == info.synthesis_digest

    def test_saving_twice_gives_the_same_bytes(self, saved, tmp_path):
        again = save_tiny(tmp_path)
        assert again.path.read_bytes() == saved.path.read_bytes()

    def test_a_file_can_be_made_again_from_itself(self, saved, tmp_path):
        model = create_model("image-light", **saved.config)
        model.load_state_dict(load_weights(str(saved.path)).model.state_dict(), strict=False)
        path = tmp_path / saved.path.name
        save_weights(model, path, name=NAME, architecture="image-light")
        assert path.read_bytes() == saved.path.read_bytes()

    @pytest.mark.parametrize("name", ["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "elic2022"])
    def test_models_of_the_literature(self, tmp_path, name):
        torch.manual_seed(0)
        groups = {"groups": (4, 4)} if name == "elic2022" else {}
        model = create_model(name, N=8, M=8, **groups)
        info = save_weights(model, tmp_path / "a.safetensors", name="a", architecture=name)
        loaded = load_weights(str(info.path))
        assert loaded.info == info
        again = save_weights(model, tmp_path / "b.safetensors", name="a", architecture=name)
        assert replace(again, path=info.path) == info
        assert again.path.read_bytes() == info.path.read_bytes()

    def test_facts_travel(self, tmp_path):
        training = {"steps": 5, "data": "photos", "nested": [1, {"a": None}]}
        path = tmp_path / "a.safetensors"
        save_weights(tiny_model(), path, name="a", architecture="image-light", kmac=(1.5, 2.5), training=training)
        info = read_info(path)
        assert (info.kmac_encode, info.kmac_decode, info.training) == (1.5, 2.5, training)

    def test_loading_leaves_random_numbers_alone(self, saved):
        files._load.cache_clear()
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        load_weights(str(saved.path))
        assert torch.equal(torch.rand(3), expected)

    @pytest.mark.parametrize("mode", ["inference", "bfloat16", "float64"])
    @pytest.mark.parametrize("media", ["image", "audio"])
    def test_modes_of_the_caller_do_not_matter(self, saved, tmp_path, mode, media):
        path = saved.path
        if media == "audio":
            path = tmp_path / "tiny-light.v1.safetensors"
            save_weights(tiny_sound_model(), path, name="tiny-light.v1", architecture="audio-light")
        expected = load_weights(str(path), nn.Module).model.state_dict()
        files._load.cache_clear()
        with contextlib.ExitStack() as stack:
            if mode == "inference":
                stack.enter_context(torch.inference_mode())
            elif mode == "bfloat16":
                stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
            else:
                stack.callback(torch.set_default_dtype, torch.float32)
                torch.set_default_dtype(torch.float64)
            before = torch.get_default_dtype()
            model = load_weights(str(path), nn.Module).model
            assert torch.get_default_dtype() is before
        files._load.cache_clear()
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, expected[name]), name
            assert tensor.dtype is expected[name].dtype
            assert not tensor.is_inference()

    def test_is_loaded_once_until_it_changes(self, saved, tmp_path):
        path = tmp_path / "a.safetensors"
        path.write_bytes(saved.path.read_bytes())
        first = load_weights(str(path))
        assert load_weights(str(path)) is first
        save_weights(tiny_model(1), path, name=NAME, architecture="image-light")
        assert load_weights(str(path)).info.entropy_digest != first.info.entropy_digest


class TestSaving:
    @pytest.mark.parametrize("name", ["", "Tiny", "a b", "a/b", "../a", ".a", "-a", "a" * 65, "a.safetensors", "ä"])
    def test_names(self, tmp_path, name):
        with pytest.raises(ValueError, match="model name"):
            save_weights(tiny_model(), tmp_path / "x.safetensors", name=name, architecture="image-light")
        assert [p.name for p in tmp_path.iterdir() if p.is_file()] == []

    @pytest.mark.parametrize("name", ["a", "0", "image-light.v2", "a_b.c-d", "a" * 64])
    def test_good_names(self, saved, tmp_path, name):
        model = load_weights(str(saved.path)).model
        assert save_weights(model, tmp_path / "x.safetensors", name=name, architecture="image-light").name == name

    def test_unknown_architecture(self, tmp_path):
        with pytest.raises(ModelMismatchError, match="no-such"):
            save_weights(tiny_model(), tmp_path / "x.safetensors", name="a", architecture="no-such")

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
    @pytest.mark.parametrize("name", ["g_s.tail.0.weight", "entropy.h_s.stem.weight"])
    def test_weights_that_float16_cannot_hold(self, tmp_path, name, value):
        model = tiny_model()
        with torch.no_grad():
            dict(model.named_parameters())[name].view(-1)[0] = value
        with pytest.raises(ValueError, match="finite"):
            save_weights(model, tmp_path / "x.safetensors", name="a", architecture="image-light")
        assert not (tmp_path / "x.safetensors").exists()

    def test_an_interrupted_write_leaves_nothing(self, tmp_path, monkeypatch):
        path = tmp_path / "sub" / "x.safetensors"
        path.parent.mkdir()
        path.write_bytes(b"old")
        monkeypatch.setattr(files, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            save_weights(tiny_model(), path, name="a", architecture="image-light")
        assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]
        assert path.read_bytes() == b"old"

    def test_the_file_can_be_read_by_others(self, saved, tmp_path):
        plain = tmp_path / "plain"
        plain.write_bytes(b"")
        assert saved.path.stat().st_mode == plain.stat().st_mode


class TestBase:
    """Weights that leave out what other weights have."""

    @pytest.fixture
    def variant(self, folders):
        """A model with another synthesis, on top of the same encoder; the base in the package's folder."""
        save_tiny(folders[0])
        model = tiny_model()
        with torch.no_grad():
            model.g_s.head.weight.mul_(1.5)
        return model

    def save(self, model, path, *, base=NAME, **more):
        return save_weights(model, path, name="variant", architecture="image-light", base=Base(base), **more)

    def test_only_the_difference_is_in_the_file(self, variant, tmp_path):
        info = self.save(variant, tmp_path / "v.safetensors")
        state, meta = content(info.path)
        assert {name.partition(".q12")[0] for name in state} == {"g_s.head.weight"}
        assert meta["base"] == {"name": NAME, "prefix": ""}
        loaded = load_weights(str(info.path))
        assert loaded.info == info
        expected = variant.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.model.state_dict().items())
        whole = save_weights(variant, tmp_path / "w.safetensors", name="variant", architecture="image-light")
        digests = ("entropy_digest", "synthesis_digest", "known_answer")
        assert all(getattr(whole, digest) == getattr(info, digest) for digest in digests)

    def test_integer_weights_that_follow_from_other_floats_than_those_of_the_base(self, folders, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "_LEAST_DERIVED", 1)
        save_tiny(folders[0])
        model = tiny_model()
        with torch.no_grad():
            for parameter in model.entropy.parameters():
                parameter.mul_(1.01)
        info = self.save(model, tmp_path / "v.safetensors")
        assert content(info.path)[1]["derived"]
        assert load_weights(str(info.path)).info == info

    def test_integer_weights_that_the_base_no_longer_holds(self, folders, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "_LEAST_DERIVED", 1 << 60)
        save_tiny(folders[0])
        model = tiny_model()
        with torch.no_grad():
            model.g_s.tail[0].weight.add_(0.5)
        info = self.save(model, tmp_path / "v.safetensors")
        assert load_weights(str(info.path)).info == info
        monkeypatch.setattr(files, "_LEAST_DERIVED", 1)
        assert content(save_tiny(folders[0]).path)[1]["derived"]
        files._load.cache_clear()
        assert load_weights(str(info.path)).info == info

    def test_a_part_of_a_model(self, folders):
        save_tiny(folders[0])
        image = load_weights(NAME).model
        state = Intra(image).state_dict()
        assert tensors.left_out(state, image.state_dict(), "image.") == set(state)
        assert tensors.left_out(state, image.state_dict(), "") == set()

    def test_a_base_that_is_not_there(self, variant, tmp_path, folders):
        info = self.save(variant, tmp_path / "v.safetensors")
        (folders[0] / f"{NAME}.safetensors").unlink()
        with pytest.raises(ModelMismatchError, match=f"No weights named '{NAME}' here, which others build on"):
            load_weights(str(info.path))

    def test_a_base_that_is_another(self, variant, tmp_path, folders):
        info = self.save(variant, tmp_path / "v.safetensors")
        other = tiny_model()
        with torch.no_grad():
            other.g_a.tail.weight.add_(0.5)
        save_weights(other, folders[0] / f"{NAME}.safetensors", name=NAME, architecture="image-light")
        with pytest.raises(ModelMismatchError, match="digest"):
            load_weights(str(info.path))

    def test_a_base_of_a_base(self, variant, tmp_path, folders):
        self.save(variant, folders[0] / "variant.safetensors")
        with pytest.raises(ModelMismatchError, match="is a base and has one itself"):
            self.save(variant, tmp_path / "v.safetensors", base="variant")

    @pytest.mark.parametrize("base", [{"name": "../up", "prefix": ""}, {"name": 5, "prefix": ""}, {}, [], "tiny"])
    def test_a_base_is_never_a_path(self, variant, tmp_path, base):
        info = self.save(variant, tmp_path / "v.safetensors")
        state, meta = content(info.path)
        with pytest.raises(ModelMismatchError):
            load_weights(rewrite(tmp_path / "x.safetensors", state, {**meta, "base": base or {"name": ""}}))


class TestDamage:
    def test_every_kind_of_tensor_is_covered_by_a_digest(self, saved, tmp_path):
        tensors, meta = content(saved.path)
        path = tmp_path / "x.safetensors"
        integers = set(entropy_state(load_weights(str(saved.path)).model))
        chosen = [n for i, n in enumerate(sorted(tensors)) if tensors[n].numel() and i % 5 == 0]
        for name in chosen:
            changed = tensors[name].clone()
            changed.view(-1)[-1] += 1
            with pytest.raises(ModelMismatchError, match=r"digest|fit"):
                pytest.fail(f"{name}: {load_weights(rewrite(path, {**tensors, name: changed}, meta))}")
        assert integers & set(chosen)
        assert set(chosen) - integers

    @pytest.mark.parametrize(
        "change",
        [
            lambda t: t.popitem(),
            lambda t: t.update(more=torch.zeros(3)),
            lambda t: t.update({"g_a.linear.weight": torch.zeros(16, 3, 8, 8)}),
            lambda t: t.update({"g_a.linear.weight": torch.zeros(0)}),
            lambda t: t.update({"entropy.context.tables.masses": torch.zeros(7, dtype=torch.int32)}),
            lambda t: t.update({"entropy.context.tables.sizes": torch.zeros(0, dtype=torch.int32)}),
            lambda t: t.update({"entropy.h_s_exact.stem.shift": torch.full((8,), 99, dtype=torch.int8)}),
            lambda t: t.update({"entropy.h_s_exact.gain.gain": torch.zeros(64, 8, dtype=torch.int32)}),
            lambda t: t.clear(),
        ],
    )
    def test_tensors_that_do_not_fit(self, saved, tmp_path, change):
        tensors, meta = content(saved.path)
        change(tensors)
        with pytest.raises(ModelMismatchError):
            load_weights(rewrite(tmp_path / "x.safetensors", tensors, meta))

    @pytest.mark.parametrize(
        "config",
        [
            {"latent": 20},
            {"latent": -16},
            {"latent": 0},
            {"latent": 18},
            {"latent": "16"},
            {"latent": None},
            {"anchors": 0},
            {"anchors": 1},
            {"lambda_min": 0.0},
            {"lambda_max": 0.2},
            {"encoder_fine": 10},
            {"surprise": 1},
            {"latent": 1 << 40},
        ],
    )
    def test_configurations_that_do_not_fit(self, saved, tmp_path, config):
        tensors, meta = content(saved.path)
        meta["config"] |= config
        with pytest.raises(ModelMismatchError):
            load_weights(rewrite(tmp_path / "x.safetensors", tensors, meta))

    @pytest.mark.parametrize(
        "change",
        [
            {"format": 4},
            {"derived": [1]},
            {"derived": ["g_a.linear.weight"]},
            {"derived": 1},
            {"packed": []},
            {"packed": ["g_a.linear.weight"]},
            {"packed": {"g_a.linear.weight": [1]}},
            {"packed": {"g_a.linear.weight": None}},
            {"format": None},
            {"name": 5},
            {"name": "../up"},
            {"media": []},
            {"architecture": "no-such"},
            {"config": []},
            {"config": None},
            {"parameters": "many"},
            {"entropy_digest": "zz"},
            {"entropy_digest": "00"},
            {"entropy_digest": 7},
            {"synthesis_digest": "00" * 32},
            {"entropy_digest": "00" * 32},
            {"known_answer": "x"},
            {"kmac_encode": None},
            {"training": 1},
            {"surprise": 1},
        ],
    )
    def test_metadata_that_is_wrong(self, saved, tmp_path, change):
        tensors, meta = content(saved.path)
        with pytest.raises(ModelMismatchError):
            load_weights(rewrite(tmp_path / "x.safetensors", tensors, {**meta, **change}))

    @pytest.mark.parametrize("text", ["", "[]", "5", "null", "{", '"x"', "{}", "[" * 100_000])
    def test_metadata_that_is_no_object(self, saved, tmp_path, text):
        path = tmp_path / "x.safetensors"
        save_file({"a": torch.zeros(1)}, str(path), {"triode": text})
        with pytest.raises(ModelMismatchError, match="not a Triode weights file"):
            read_info(path)

    def test_safetensors_of_somebody_else(self, tmp_path):
        path = tmp_path / "x.safetensors"
        for meta in (None, {"format": "pt"}):
            save_file({"a": torch.zeros(1)}, str(path), meta)
            with pytest.raises(ModelMismatchError, match="not a Triode weights file"):
                load_weights(str(path))

    def test_truncated_and_foreign_files(self, saved, tmp_path):
        data = saved.path.read_bytes()
        path = tmp_path / "x.safetensors"
        header = 8 + struct.unpack("<Q", data[:8])[0]
        cuts = [data[:n] for n in (0, 4, 8, 100, header - 1, header, header + 1, len(data) - 1)]
        for damaged in [*cuts, b"hello", bytes(100), b"\xff" * 100, data + b"\0", b"PK\x03\x04" + bytes(100)]:
            path.write_bytes(damaged)
            with pytest.raises(ModelMismatchError):
                load_weights(str(path))

    def test_a_machine_that_does_not_compute_exactly(self, saved, tmp_path):
        tensors, meta = content(saved.path)
        meta["known_answer"] ^= 1
        with pytest.raises(ModelMismatchError, match="does not compute the entropy networks exactly"):
            load_weights(rewrite(tmp_path / "x.safetensors", tensors, meta))

    def test_a_layer_that_is_off_by_one_is_noticed(self, saved, monkeypatch):
        from triode.entropy.exact.layers import ExactConv2d

        files._load.cache_clear()
        forward = ExactConv2d.forward
        monkeypatch.setattr(ExactConv2d, "forward", lambda self, x: forward(self, x) + 1)
        with pytest.raises(ModelMismatchError, match="known-answer test"):
            load_weights(str(saved.path))


class TestFinding:
    def test_order_is_package_then_home(self, folders, monkeypatch):
        package, home = folders
        save_tiny(home, seed=1)
        with pytest.raises(ModelMismatchError, match="none"):
            find_weights(NAME)
        monkeypatch.setenv("TRIODE_HOME", str(home))
        assert find_weights(NAME).parent == home
        save_tiny(package, seed=2)
        assert find_weights(NAME).parent == package
        assert load_weights(NAME).info.path.parent == package
        assert [info.path.parent for info in list_weights()] == [package]
        assert find_weights(str(home / f"{NAME}.safetensors")).parent == home

    def test_a_path_is_taken_as_such(self, saved, tmp_path, monkeypatch):
        (tmp_path / "mine.safetensors").write_bytes(saved.path.read_bytes())
        monkeypatch.chdir(tmp_path)
        assert load_weights("mine.safetensors").info.name == NAME
        with pytest.raises(ModelMismatchError, match="No weights named 'mine'"):
            load_weights("mine")

    @pytest.mark.parametrize(
        "name", ["none", "none.safetensors", "/none.safetensors", "", ".", "..", "a/b", "a\0b", "A"]
    )
    def test_what_is_not_there(self, name):
        with pytest.raises(ModelMismatchError, match=r"No weights (named|file at)"):
            load_weights(name)

    def test_a_name_never_leaves_the_folders(self, saved, folders, monkeypatch):
        _, home = folders
        monkeypatch.setenv("TRIODE_HOME", str(home / "sub"))
        (home / "sub").mkdir()
        (home / "up.safetensors").write_bytes(saved.path.read_bytes())
        for name in ("../up", "sub/../../up", "..\\up"):
            with pytest.raises(ModelMismatchError, match="No weights named"):
                load_weights(name)

    def test_a_renamed_file_is_refused_by_name(self, saved, folders):
        package, _ = folders
        (package / "other.v1.safetensors").write_bytes(saved.path.read_bytes())
        with pytest.raises(ModelMismatchError, match=f"holds the weights '{NAME}'"):
            load_weights("other.v1")
        assert list_weights() == ()

    def test_the_list_leaves_out_what_is_no_weights_file(self, folders, monkeypatch):
        package, home = folders
        monkeypatch.setenv("TRIODE_HOME", str(home))
        (package / "broken.safetensors").write_bytes(b"hello")
        save_file({"a": torch.zeros(1)}, str(home / "foreign.safetensors"))
        save_tiny(home, name="b.v1")
        save_tiny(package, name="c.v1")
        save_tiny(home, name="a.v1")
        assert [info.name for info in list_weights()] == ["a.v1", "b.v1", "c.v1"]
        with pytest.raises(ModelMismatchError, match=r"there are: a\.v1, b\.v1, c\.v1"):
            find_weights("d.v1")

    def test_home_that_is_not_there(self, monkeypatch, tmp_path):
        monkeypatch.setenv("TRIODE_HOME", str(tmp_path / "nowhere"))
        assert list_weights() == ()

    def test_defaults(self):
        assert default_weights("image") == "image-light.v5"
        with pytest.raises(ModelMismatchError, match="'smell'"):
            default_weights("smell")

    def test_defaults_for_sound(self, folders, monkeypatch):
        package, home = folders
        monkeypatch.setenv("TRIODE_HOME", str(home))
        with pytest.raises(ModelMismatchError, match=r"neither audio-light-speech\.v1 nor audio-light-general\.v2"):
            default_weights("audio", rate=16000)
        speech, general = "audio-light-speech.v1", "audio-light-general.v2"
        (home / f"{speech}.safetensors").touch()
        assert default_weights("audio", rate=48000, channels=2) == default_weights("audio") == speech
        (package / f"{general}.safetensors").touch()
        for rate, channels, name in (
            (8000, 1, speech),
            (16000, 2, speech),
            (22050, 1, speech),
            (24000, 1, speech),
            (24000, 2, general),
            (32000, 1, general),
            (48000, 6, general),
            (None, 1, general),
        ):
            assert default_weights("audio", rate=rate, channels=channels) == name
        (home / f"{speech}.safetensors").unlink()
        assert default_weights("audio", rate=16000) == general
