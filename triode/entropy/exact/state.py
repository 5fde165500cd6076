"""Integer state of the entropy path: what the entropy digest covers and what no platform may recompute."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from triode.entropy.tables import CdfTables
from triode.errors import UnsupportedError


class ExactModule(nn.Module):
    """Base of every module whose buffers are integers that encoder and decoder must share.

    Its buffers are named by :func:`entropy_state`, hashed into the entropy digest, and stored with the weights.
    """


class TableBuffer(ExactModule):
    """Holds :class:`CdfTables` as buffers, empty until exported or loaded."""

    masses: torch.Tensor
    sizes: torch.Tensor
    offsets: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("masses", "sizes", "offsets"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int32))
        self._tables: CdfTables | None = None

    def set(self, tables: CdfTables) -> None:
        """Store tables."""
        self.masses = torch.from_numpy(tables.masses.copy())
        self.sizes = torch.from_numpy(tables.sizes.copy())
        self.offsets = torch.from_numpy(tables.offsets.copy())
        self._tables = tables

    def get(self) -> CdfTables:
        """Return the tables.

        Raises:
            UnsupportedError: If there are none yet.
        """
        if self._tables is None:
            if self.sizes.numel() == 0:
                raise UnsupportedError("This entropy model has no tables yet: export it, or load exported weights")
            masses, sizes, offsets = (t.cpu().numpy().copy() for t in (self.masses, self.sizes, self.offsets))
            self._tables = CdfTables(masses, sizes, offsets)
        return self._tables

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The sizes of the tables are data, not architecture: take them from the file.
        for name in ("masses", "sizes", "offsets"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        self._tables = None
        super()._load_from_state_dict(state_dict, prefix, *args)


def entropy_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Collect the integer state of all exact modules inside a module.

    Args:
        module: A model or a part of one.

    Returns:
        Buffers by qualified name, sorted.
    """
    found: dict[str, torch.Tensor] = {}
    for prefix, child in module.named_modules():
        if isinstance(child, ExactModule):
            for name, buffer in child.named_buffers(recurse=False):
                found[f"{prefix}.{name}" if prefix else name] = buffer
    return dict(sorted(found.items()))
