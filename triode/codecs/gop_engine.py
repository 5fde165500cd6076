"""Where groups of pictures are coded: in threads of this process, or in several processes; the results come in order.

An engine is anything with the methods of :class:`GopEngine`: another one spreads the groups over a cluster.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

import torch

from triode.codecs.gop import Gop
from triode.codecs.gop_decoder import groups_at_once
from triode.codecs.gop_encoder import CodedGop, encode_gop
from triode.codecs.processes import belong_to_parent, one_thread_each
from triode.codecs.threads import Check, in_order
from triode.container import VideoHead
from triode.errors import CodecError
from triode.models.base import VideoModel

__all__ = ["GopEngine", "ProcessEngine", "SerialEngine", "ThreadEngine"]


class GopEngine(Protocol):
    """Codes groups of pictures."""

    def run(self, model: VideoModel, head: VideoHead, gops: Iterable[Gop], point: int) -> Iterator[CodedGop]:
        """Yield each group coded at a rate point, in order; takes no more groups at a time than it codes at once."""
        ...


class SerialEngine:
    """Codes one group after another in this process."""

    def run(self, model: VideoModel, head: VideoHead, gops: Iterable[Gop], point: int) -> Iterator[CodedGop]:
        """Yield each group coded at a rate point, in order."""
        for gop in gops:
            yield encode_gop(model, head, gop, point)


class ThreadEngine:
    """Codes several groups at once, each in a thread of this process, as far as PyTorch's threads and memory go."""

    def run(self, model: VideoModel, head: VideoHead, gops: Iterable[Gop], point: int) -> Iterator[CodedGop]:
        """Yield each group coded at a rate point, in order."""

        def task(gop: Gop) -> Callable[[Check], CodedGop]:
            return lambda check: encode_gop(model, head, gop, point, check)

        yield from in_order(map(task, gops), groups_at_once(model, head))


class ProcessEngine:
    """Codes several groups at once, each in a process of one thread.

    Args:
        jobs: Number of processes.

    Raises:
        ValueError: If that is not positive.
    """

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise ValueError(f"Argument `jobs` must be positive, but got {jobs}")
        self.jobs = jobs

    def run(self, model: VideoModel, head: VideoHead, gops: Iterable[Gop], point: int) -> Iterator[CodedGop]:
        """Yield each group coded at a rate point, in order.

        Raises:
            CodecError: If a process dies.
        """
        # A fork would copy the locks of libraries with threads.
        context = multiprocessing.get_context("spawn")
        waiting: deque[Future[CodedGop]] = deque()
        with one_thread_each():
            pool = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=_begin, initargs=(model, head, point))
            try:
                for gop in gops:
                    waiting.append(pool.submit(_work, gop))
                    if len(waiting) > self.jobs:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BrokenProcessPool as error:
                raise CodecError("a process that coded frames died, perhaps for lack of memory") from error
            finally:
                pool.shutdown(cancel_futures=True)


_job: tuple[VideoModel, VideoHead, int] | None = None


def _begin(model: VideoModel, head: VideoHead, point: int) -> None:
    """Prepare a worker process."""
    global _job
    belong_to_parent()
    torch.set_num_threads(1)
    _job = (model, head, point)


def _work(gop: Gop) -> CodedGop:
    if _job is None:
        raise RuntimeError("the process was not prepared")
    model, head, point = _job
    return encode_gop(model, head, gop, point)
