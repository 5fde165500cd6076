"""Groups of pictures of a video, coded on Ray (https://www.ray.io): on this machine, or on a cluster."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from triode.codecs.gop import Gop
from triode.codecs.gop_encoder import CodedGop, encode_gop
from triode.container import VideoHead
from triode.errors import CodecError, UnsupportedError
from triode.models.base import VideoModel

__all__ = ["RayEngine"]


class RayEngine:
    """Codes several groups at once, each in a process of one core, on the Ray that `ray.init` has started.

    Frames travel to the workers, and bytes come back: the nodes of a cluster need not see any file.

    Args:
        jobs: Groups that are coded at a time; None for one a core of the cluster.

    Raises:
        UnsupportedError: If Ray is not installed, or not started.
        ValueError: If `jobs` is not positive.
    """

    def __init__(self, jobs: int | None = None) -> None:
        if jobs is not None and jobs < 1:
            raise ValueError(f"Argument `jobs` must be positive, but got {jobs}")
        self._ray = _import_ray()
        if not self._ray.is_initialized():
            raise UnsupportedError("Ray is not started: call ray.init() first")
        self.jobs = jobs or max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def run(self, model: VideoModel, head: VideoHead, gops: Iterable[Gop], point: int) -> Iterator[CodedGop]:
        """Yield each group coded at a rate point, in order.

        Raises:
            CodecError: If a group cannot be coded, or a worker dies again and again.
        """
        ray = self._ray
        encode = ray.remote(num_cpus=1, max_retries=2)(encode_gop)
        shared, fixed = ray.put(model), ray.put(head)
        waiting: deque[Any] = deque()
        try:
            for gop in gops:
                waiting.append(encode.remote(shared, fixed, gop, point))
                if len(waiting) > self.jobs:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    def _result(self, reference: Any) -> CodedGop:
        try:
            coded: CodedGop = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise CodecError(f"a worker that coded frames died: {error}") from error
        return coded


def _import_ray() -> Any:
    # Ray would rewrite this variable on machines with accelerators, and say so.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UnsupportedError("coding on Ray needs it: pip install 'triode[ray]'") from error
    return ray
