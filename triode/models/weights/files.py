"""Reading and writing weights files."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from triode.entropy.exact.state import entropy_state
from triode.errors import ModelMismatchError
from triode.models.base import AudioModel, ImageModel, VideoModel
from triode.models.registry import get_architecture
from triode.models.weights.catalogue import find_weights, locate
from triode.models.weights.digest import entropy_digest, known_answer, synthesis_digest
from triode.models.weights.info import FORMATS, NAME, SUFFIX, WeightsInfo, read_info, read_meta
from triode.models.weights.tensors import Base, left_out, pack, rounded, unpack

_LEAST_DERIVED = 1024
M_co = TypeVar("M_co", bound=nn.Module, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded(Generic[M_co]):
    """A loaded model and what its file says."""

    model: M_co
    info: WeightsInfo


class Pretrained(Loaded[ImageModel]):
    """A loaded image model."""


class PretrainedSound(Loaded[AudioModel]):
    """A loaded model of sound."""


class PretrainedVideo(Loaded[VideoModel]):
    """A loaded model of video."""


def _salt(architecture: str, config: dict[str, Any]) -> str:
    return json.dumps([architecture, config], sort_keys=True)


def save_weights(
    model: ImageModel | AudioModel | VideoModel,
    path: Path,
    *,
    name: str,
    architecture: str,
    kmac: tuple[float, float] = (0.0, 0.0),
    training: dict[str, Any] | None = None,
    base: Base | None = None,
) -> WeightsInfo:
    """Export a model and write it: floats in 12 or 16 bits (see `tensors`), the entropy path as integers.

    Args:
        model: Trained model; gets exported here.
        path: Target, ``.safetensors``.
        name: ``family-size.vN``.
        architecture: Name of the registered model.
        kmac: Thousand multiplications a pixel, or a sample, to encode and to decode.
        training: Facts on the training, kept in the file.
        base: Weights whose tensors the file leaves out where they are the same; it can be loaded beside them only.

    Returns:
        What the file says.

    Raises:
        ValueError: If the name is not a model name, or a weight is not finite in float16.
        ModelMismatchError: If there is no such architecture, or no such base.
    """
    if not NAME.fullmatch(name) or name.endswith(SUFFIX):
        raise ValueError(f"A model name is 1 to 64 characters of [a-z0-9._-] without {SUFFIX}, but got {name!r}")
    entry = get_architecture(architecture)
    model = model.cpu().eval()
    # Integers come from what the file holds, so that a file can be made again from itself. The first export may set
    # floats that are rounded in turn.
    for _ in range(2):
        state = model.state_dict()
        broken = [k for k, v in state.items() if v.is_floating_point() and not bool(v.half().isfinite().all())]
        if broken:
            raise ValueError(f"Weights must be finite in float16, but {broken[0]} is not")
        model.load_state_dict({k: rounded(v) for k, v in state.items()})
        model.export()
    config = dataclasses.asdict(model.config)
    salt = _salt(architecture, config)
    state = model.state_dict()
    if base is not None:
        there = left_out(state, _tensors(_base_path(base), {}, depth=1), base.prefix)
        state = {k: v for k, v in state.items() if k not in there}
    derived = sorted(k for k in _derivable(model) if k in state)
    tensors, packed = pack({k: v for k, v in state.items() if k not in derived})
    meta = {
        "format": FORMATS[-1],
        "packed": packed,
        "derived": derived,
        "base": None if base is None else dataclasses.asdict(base),
        "name": name,
        "media": entry.media,
        "architecture": architecture,
        "config": config,
        "parameters": sum(p.numel() for p in model.parameters()),
        "entropy_digest": entropy_digest(model, salt).hex(),
        "synthesis_digest": synthesis_digest(model, salt).hex(),
        "known_answer": known_answer(model),
        "kmac_encode": kmac[0],
        "kmac_decode": kmac[1],
        "training": training or {},
    }
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_bytes(save(tensors, {"triode": json.dumps(meta, sort_keys=True)}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return read_info(path)


@overload
def load_weights(name: str) -> Pretrained: ...
@overload
def load_weights(name: str, kind: type[M_co]) -> Loaded[M_co]: ...
def load_weights(name: str, kind: type[nn.Module] = ImageModel) -> Loaded[Any]:
    """Load a model with its weights; the last few stay in memory.

    Args:
        name: Name or path, see :func:`find_weights`.
        kind: What the model must be: :class:`ImageModel`, :class:`AudioModel`, :class:`VideoModel`, or ``nn.Module``
            for any.

    Returns:
        The model, in evaluation mode, and its file's facts.

    Raises:
        ModelMismatchError: If the file is missing, damaged, of another medium, bears another name than the one inside,
            or its known-answer test fails on this machine.
    """
    path = find_weights(name)
    stat = path.stat()
    weights = _load(path, stat.st_mtime_ns, stat.st_size)
    if not name.endswith(SUFFIX) and weights.info.name != name:
        raise ModelMismatchError(f"{path} holds the weights {weights.info.name!r}: rename it, or give its path")
    if not isinstance(weights.model, kind):
        raise ModelMismatchError(f"{path} holds weights for {weights.info.media}: {weights.info.architecture}")
    return weights


@lru_cache(maxsize=4)
def _load(path: Path, _mtime: int, _size: int) -> Loaded[nn.Module]:
    info = read_info(path)
    entry = get_architecture(info.architecture)
    try:
        with _plain_torch():
            model = entry.build(entry.config(**info.config))
            if not isinstance(model, ImageModel | AudioModel | VideoModel):
                raise TypeError(f"{info.architecture} is no model of images, sound or video")
            _load_tensors(model, path)
    except (
        SafetensorError,
        RuntimeError,
        TypeError,
        ValueError,
        OSError,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
    ) as error:
        raise ModelMismatchError(f"{path}: weights do not fit {info.architecture}: {error}") from error
    salt = _salt(info.architecture, info.config)
    if entropy_digest(model, salt).hex() != info.entropy_digest:
        raise ModelMismatchError(f"{path}: the entropy model does not match its digest; the file is damaged")
    if synthesis_digest(model, salt).hex() != info.synthesis_digest:
        raise ModelMismatchError(f"{path}: the synthesis does not match its digest; the file is damaged")
    found = known_answer(model)
    if found != info.known_answer:
        raise ModelMismatchError(
            f"{path}: known-answer test gives {found:08x} instead of {info.known_answer:08x}; "
            "this machine does not compute the entropy networks exactly"
        )
    if isinstance(model, VideoModel):
        return PretrainedVideo(model, info)
    return PretrainedSound(model, info) if isinstance(model, AudioModel) else Pretrained(model, info)


@contextmanager
def _plain_torch() -> Iterator[None]:
    """Build a model the same way whatever modes the caller has set, which are for what the caller computes."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        # Tensors that are made in inference mode could never be refined through.
        with torch.random.fork_rng(devices=[]), torch.inference_mode(mode=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_default_dtype(before)


def _load_tensors(model: ImageModel | AudioModel | VideoModel, path: Path) -> None:
    derived = set(read_meta(path).get("derived") or [])
    model.eval().requires_grad_(False)
    model.export()
    state = _tensors(path, model.state_dict())
    # What this file leaves to its base the base may leave to be made in turn.
    derived |= _inherited(path).intersection(model.state_dict()).difference(state)
    if derived:
        made = _integer_weights(model, state)
        state |= {k: made[k] for k in derived}  # A base may have others of these names.
    model.load_state_dict(state)
    if not entropy_state(model):
        raise ValueError("no integer entropy state")


def _integer_weights(model: ImageModel | AudioModel | VideoModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a model the floats of `state`; return the large integer weights that its export makes of them.

    They are float32 numbers times a power of two, rounded: the same on every machine, and covered by the digest.
    """
    model.load_state_dict({k: v for k, v in state.items() if v.is_floating_point()}, strict=False)
    model.export()
    return {k: v for k, v in entropy_state(model).items() if v.dtype == torch.int16 and v.numel() >= _LEAST_DERIVED}


def _derivable(model: ImageModel | AudioModel | VideoModel) -> set[str]:
    """Return the names of the integer weights that a file may leave out, as export makes them of its floats."""
    state = {k: v.clone() for k, v in model.state_dict().items()}
    made = _integer_weights(copy.deepcopy(model), state)
    return {k for k, v in made.items() if torch.equal(v, state[k])}


def _base_path(base: Base) -> Path:
    """Find a base by its name, never by a path: a file does not choose what else is opened.

    Raises:
        ModelMismatchError: If it is not there.
    """
    if not NAME.fullmatch(base.name):
        raise ModelMismatchError(f"A base is named as weights are, but this one is {base.name!r}")
    if (path := locate(base.name)) is None:
        raise ModelMismatchError(f"No weights named {base.name!r} here, which others build on")
    return path


def _inherited(path: Path) -> set[str]:
    """Return the names of the integer weights that the base of a file, if it has one, leaves to be made."""
    if not (named := read_meta(path).get("base")):
        return set()
    base = Base(str(named["name"]), str(named["prefix"]))
    return {base.prefix + k for k in read_meta(_base_path(base)).get("derived") or []}


def _tensors(path: Path, wanted: Mapping[str, Any], *, depth: int = 0) -> dict[str, Tensor]:
    """Return the tensors of a file, and of its base those that it leaves out.

    Args:
        path: The file.
        wanted: Names that a base may fill in.
        depth: How many files were opened on the way to this one.

    Raises:
        ModelMismatchError: If the base is missing, or has a base that has one.
    """
    meta = read_meta(path)
    with safe_open(str(path), "pt") as f:
        tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    state = unpack(tensors, meta.get("packed") or {})
    if not meta.get("base"):
        return state
    base = Base(str(meta["base"]["name"]), str(meta["base"]["prefix"]))
    if depth:
        raise ModelMismatchError(f"{path} is a base and has one itself")
    there = _tensors(_base_path(base), {}, depth=depth + 1)
    filled = {base.prefix + k: v for k, v in there.items()}
    return {k: v for k, v in filled.items() if k in wanted} | state
