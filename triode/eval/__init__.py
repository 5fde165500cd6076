"""Measuring: metrics, codecs to compare with, the bench and its reports.

`bench` measures codecs of all kinds; `FunctionCoder` makes a codec of two functions. Importing this package loads
nothing heavy: torch and NumPy come with the first name that is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triode.eval.coder import Coder, CoderFacts, FunctionCoder, create_coder, list_coders, register_coder
    from triode.eval.metrics import list_metrics, metric, register_metric
    from triode.eval.results import Measurement, Results
    from triode.eval.runner import Status, bench
    from triode.eval.sources import CodecReference

__all__ = [
    "CodecReference",
    "Coder",
    "CoderFacts",
    "FunctionCoder",
    "Measurement",
    "Results",
    "Status",
    "bench",
    "create_coder",
    "list_coders",
    "list_metrics",
    "metric",
    "register_coder",
    "register_metric",
]

_LAZY = {
    "Coder": "coder",
    "CoderFacts": "coder",
    "CodecReference": "sources",
    "FunctionCoder": "coder",
    "Measurement": "results",
    "Results": "results",
    "Status": "runner",
    "bench": "runner",
    "create_coder": "coder",
    "list_coders": "coder",
    "list_metrics": "metrics",
    "metric": "metrics",
    "register_coder": "coder",
    "register_metric": "metrics",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
