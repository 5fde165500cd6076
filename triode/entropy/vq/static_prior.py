"""Static code prior: one table a stage, whatever the codes around."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.exact.state import TableBuffer
from triode.entropy.tables import CdfTables
from triode.entropy.vq.prior import CodePrior, check_symbols


class StaticPrior(CodePrior):
    """Codes of a stage are independent and identically distributed.

    The distributions are counted (:meth:`fit`), or learned by gradients of the bits.

    Args:
        codebook_sizes: Number of entries of each stage's codebook.
        strides: Frames that one code of each stage stands for; all 1 when absent.
        groups: Stages with the same number share a table, say those of one depth in several groups of channels; a
            table a stage when absent.

    Raises:
        ValueError: If stages of one group have codebooks of different sizes.
    """

    def __init__(
        self,
        codebook_sizes: Sequence[int],
        strides: Sequence[int] | None = None,
        *,
        groups: Sequence[int] | None = None,
    ) -> None:
        super().__init__(codebook_sizes, strides)
        given = tuple(range(self.stages)) if groups is None else tuple(groups)
        sizes = dict(zip(given, self.codebook_sizes, strict=False))
        if len(given) != self.stages or any(sizes[g] != k for g, k in zip(given, self.codebook_sizes, strict=True)):
            raise ValueError(
                f"Argument `groups` must be one a stage, equal only for equal sizes, but got {given} for sizes "
                f"{self.codebook_sizes}"
            )
        names = list(sizes)
        self.table_of = tuple(names.index(group) for group in given)
        self.logits = nn.ParameterList(torch.zeros(size) for size in sizes.values())
        self.tables = TableBuffer()

    def export(self) -> None:
        """Freeze the tables."""
        pmfs = [F.softmax(logits.detach().double().cpu(), 0).numpy() for logits in self.logits]
        self.tables.set(CdfTables.from_pmfs([np.append(pmf, 0.0) for pmf in pmfs], [0] * len(pmfs)))

    def _bits(self, codes: Sequence[Tensor], frames: int) -> list[Tensor]:
        costs = [F.log_softmax(logits.float(), 0) / -math.log(2) for logits in self.logits]
        return [costs[table][code].sum(1) for code, table in zip(codes, self.table_of, strict=False)]

    def _encode(self, codes: Sequence[Tensor], frames: int, writer: SymbolWriter) -> None:
        tables = self.tables.get()
        for code, table in zip(codes, self.table_of, strict=False):
            writer.write(code[0].cpu().numpy(), np.full(code.shape[1], table, dtype=np.int32), tables)

    def _decode(self, frames: int, stages: int, reader: SymbolReader) -> tuple[Tensor, ...]:
        tables, codes = self.tables.get(), []
        for stage, length in enumerate(self.code_frames(frames)[:stages]):
            symbols = reader.read(np.full(length, self.table_of[stage], dtype=np.int32), tables)
            codes.append(check_symbols(torch.from_numpy(symbols).long()[None], self.codebook_sizes[stage], stage))
        return tuple(codes)

    def _set_counts(self, counts: Sequence[Tensor]) -> None:
        for table, logits in enumerate(self.logits):
            mine = torch.stack([count for count, t in zip(counts, self.table_of, strict=True) if t == table])
            logits.copy_((mine.sum(0) / mine.sum()).log())
