"""Vector quantisers: one interface from features to codes and back, composed of a few parts."""

from triode.entropy.vq.base import Quantized, VectorQuantizer
from triode.entropy.vq.codebook import Codebook
from triode.entropy.vq.factorised import FactorisedVQ
from triode.entropy.vq.fsq import FSQ
from triode.entropy.vq.group import GroupResidualVQ, GroupVQ
from triode.entropy.vq.masked import MaskedChannelResidualVQ
from triode.entropy.vq.multicodebook import GumbelVQ, MultiCodebookVQ
from triode.entropy.vq.multiscale import MultiScaleResidualVQ, PooledVQ
from triode.entropy.vq.plain import PlainVQ
from triode.entropy.vq.product import CrossScaleVQ, FoldedVQ, ProductVQ
from triode.entropy.vq.residual import ResidualVQ, draw_stage_counts
from triode.entropy.vq.simvq import SimVQ

__all__ = [
    "FSQ",
    "Codebook",
    "CrossScaleVQ",
    "FactorisedVQ",
    "FoldedVQ",
    "GroupResidualVQ",
    "GroupVQ",
    "GumbelVQ",
    "MaskedChannelResidualVQ",
    "MultiCodebookVQ",
    "MultiScaleResidualVQ",
    "PlainVQ",
    "PooledVQ",
    "ProductVQ",
    "Quantized",
    "ResidualVQ",
    "SimVQ",
    "VectorQuantizer",
    "draw_stage_counts",
]
