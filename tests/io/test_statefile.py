"""Reading of weights: what torch.save writes comes back, and no file makes the reader run or import anything."""

from __future__ import annotations

import collections
import io
import os
import pickle
import sys
import zipfile

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triode.errors import UnsupportedError
from triode.io.statefile import read_state

LAYOUTS = [True, False]  # torch's zip, and what came before it
DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]


def saved(state, *, as_zip):
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=as_zip)
    return file.getvalue()


def same(found, state):
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach())
    return True


@pytest.mark.parametrize("as_zip", LAYOUTS)
def test_state_of_a_module(tmp_path, as_zip):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 1000))
    (tmp_path / "state.pth").write_bytes(saved(module.state_dict(), as_zip=as_zip))
    assert same(read_state(tmp_path / "state.pth"), module.state_dict())


@pytest.mark.parametrize("as_zip", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_types(tmp_path, as_zip, dtype):
    state = {"a": torch.arange(-3, 4).to(getattr(torch, dtype)), "b": torch.tensor(1).to(getattr(torch, dtype))}
    (tmp_path / "state.pth").write_bytes(saved(state, as_zip=as_zip))
    assert same(read_state(tmp_path / "state.pth"), state)


@pytest.mark.parametrize("as_zip", LAYOUTS)
def test_views_parameters_and_empty_tensors(tmp_path, as_zip):
    base = torch.arange(24.0).view(2, 3, 4)
    state = {
        "base": base,
        "turned": base.permute(2, 0, 1),
        "part": base[1, :, 1::2],
        "parameter": torch.nn.Parameter(base[0]),
        "empty": torch.zeros(0, 3),
        "long name " * 40: torch.ones(1),
    }
    for kind in (dict, collections.OrderedDict):
        (tmp_path / "state.pth").write_bytes(saved(kind(state), as_zip=as_zip))
        assert same(read_state(tmp_path / "state.pth"), state)


@pytest.mark.parametrize("as_zip", LAYOUTS)
def test_prefix_chooses(tmp_path, as_zip):
    state = {f"{part}.{i}": torch.full((i,), float(i)) for i in range(1, 4) for part in ("features", "classifier")}
    (tmp_path / "state.pth").write_bytes(saved(state, as_zip=as_zip))
    safetensors.torch.save_file(state, tmp_path / "state.safetensors")
    for name in ("state.pth", "state.safetensors"):
        found = read_state(tmp_path / name, "features.")
        assert same(found, {f"features.{i}": torch.full((i,), float(i)) for i in range(1, 4)})


class Attack:
    """Unpickling this makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def hostile(tmp_path, as_zip):
    """Make files that would make a folder, or worse, if they were unpickled."""
    trap = str(tmp_path / "trap")
    yield saved(Attack(trap), as_zip=as_zip)
    yield saved({"a": torch.ones(2), "b": Attack(trap)}, as_zip=as_zip)
    yield saved({Attack(trap): torch.ones(2)}, as_zip=as_zip)
    yield saved(collections.OrderedDict(a=collections.OrderedDict(b=Attack(trap))), as_zip=as_zip)
    yield pickle.dumps(Attack(trap))
    yield pickle.dumps(Attack(trap), protocol=0)
    # Names that exist in this process or in its modules, called as if they were an OrderedDict.
    good = saved(collections.OrderedDict(a=torch.ones(2)), as_zip=False)
    for name in (b"builtins exec", b"posix system", b"collections namedtuple", b"torch load"):
        module, function = name.split()
        yield good.replace(b"ccollections\nOrderedDict\n", b"c" + module + b"\n" + function + b"\n")


@pytest.mark.parametrize("as_zip", LAYOUTS)
def test_nothing_in_a_file_is_run(tmp_path, as_zip):
    for data in hostile(tmp_path, as_zip):
        (tmp_path / "state.pth").write_bytes(data)
        with pytest.raises(UnsupportedError, match=r"state\.pth"):
            read_state(tmp_path / "state.pth")
        assert not (tmp_path / "trap").exists()
    data = next(hostile(tmp_path, as_zip))
    torch.load(io.BytesIO(data), weights_only=False)
    assert (tmp_path / "trap").exists()  # the trap works


def test_nothing_in_a_file_is_imported(tmp_path, monkeypatch):
    (tmp_path / "sprung.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    good = saved(collections.OrderedDict(a=torch.ones(2)), as_zip=False)
    data = good.replace(b"ccollections\nOrderedDict\n", b"csprung\nOrderedDict\n")
    assert data != good
    (tmp_path / "state.pth").write_bytes(data)
    with pytest.raises(UnsupportedError, match="sprung"):
        read_state(tmp_path / "state.pth")
    assert "sprung" not in sys.modules


@pytest.mark.parametrize("as_zip", LAYOUTS)
@pytest.mark.parametrize(
    "state", [torch.ones(3), [torch.ones(3)], {"a": 1}, {"a": {"b": torch.ones(1)}}, {1: torch.ones(1)}]
)
def test_other_than_tensors_by_name_is_refused(tmp_path, as_zip, state):
    (tmp_path / "state.pth").write_bytes(saved(state, as_zip=as_zip))
    with pytest.raises(UnsupportedError, match="more than tensors by name"):
        read_state(tmp_path / "state.pth")


def test_tensor_larger_than_its_storage_is_refused(tmp_path):
    state = {"a": torch.ones(1).expand(1 << 40)}  # four terabytes, were it copied out
    (tmp_path / "state.pth").write_bytes(saved(state, as_zip=True))
    with pytest.raises(UnsupportedError, match="more numbers than its storage"):
        read_state(tmp_path / "state.pth")


def test_compressed_archive_is_refused(tmp_path):
    source = zipfile.ZipFile(io.BytesIO(saved({"a": torch.ones(9)}, as_zip=True)))
    with zipfile.ZipFile(tmp_path / "state.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in source.namelist():
            packed.writestr(name, source.read(name))
    with pytest.raises(UnsupportedError, match="compressed"):
        read_state(tmp_path / "state.pth")


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors", "folder.pth"])
def test_missing_file(tmp_path, name):
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(UnsupportedError, match=name.replace(".", r"\.")):
        read_state(tmp_path / name)


@pytest.mark.parametrize("data", [b"", b"\x80", b"not weights", b"\x80\x02." * 9, b"PK\x03\x04" + bytes(99)])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_rubbish(tmp_path, data, suffix):
    (tmp_path / f"state{suffix}").write_bytes(data)
    with pytest.raises(UnsupportedError):
        read_state(tmp_path / f"state{suffix}")


GOOD = [saved(collections.OrderedDict(a=torch.arange(5.0), b=torch.ones(2, 3)), as_zip=z) for z in LAYOUTS]


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_refused_or_harmless(tmp_path, data):
    file = bytearray(data.draw(st.sampled_from(GOOD)))
    for _ in range(data.draw(st.integers(0, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.none(), st.integers(0, len(file))))
    (tmp_path / "state.pth").write_bytes(file[:end])
    try:
        found = read_state(tmp_path / "state.pth")
    except UnsupportedError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())
