"""Federated analytics: what all channels' customers are like, with noise at customer level."""

from .histograms import HistogramSpec, HistogramWorkload, NoisyHistogram, secure_histogram
from .quantiles import Quantile, Quantiles, QuantileSpec, QuantileWorkload, secure_quantiles

__all__ = [
    "HistogramSpec",
    "HistogramWorkload",
    "NoisyHistogram",
    "Quantile",
    "QuantileSpec",
    "QuantileWorkload",
    "Quantiles",
    "secure_histogram",
    "secure_quantiles",
]
