"""Metrics: how far what was decoded is from the original. ``docs/metrics.md`` says what each one is.

This package holds the list of metrics by name. Functions and classes lie in its modules, by kind: ``psnr``, ``msssim``
and ``deep`` for images, ``signal``, ``spectral`` and ``speech`` for audio, ``video`` for video.
"""

from __future__ import annotations

from triode.eval.metrics.base import Metric, MetricInfo, RegisteredMetric, list_metrics, metric, register_metric

__all__ = ["Metric", "MetricInfo", "RegisteredMetric", "list_metrics", "metric", "register_metric"]
