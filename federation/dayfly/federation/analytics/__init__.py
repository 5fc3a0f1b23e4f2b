"""Federated analytics: what all channels' customers are like, and whom channels share, with noise at customer level."""

from .histograms import HistogramSpec, HistogramWorkload, NoisyHistogram, secure_histogram
from .overlap import NoisyOverlap, OverlapParty, count_overlap
from .overlap_spec import OverlapSpec
from .quantiles import Quantile, Quantiles, QuantileSpec, QuantileWorkload, secure_quantiles

__all__ = [
    "HistogramSpec",
    "HistogramWorkload",
    "NoisyHistogram",
    "NoisyOverlap",
    "OverlapParty",
    "OverlapSpec",
    "Quantile",
    "QuantileSpec",
    "QuantileWorkload",
    "Quantiles",
    "count_overlap",
    "secure_histogram",
    "secure_quantiles",
]
