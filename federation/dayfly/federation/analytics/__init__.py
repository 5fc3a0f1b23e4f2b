"""Federated analytics: what all channels' customers are like, with noise at customer level."""

from .histograms import HistogramSpec, HistogramWorkload, NoisyHistogram, secure_histogram

__all__ = ["HistogramSpec", "HistogramWorkload", "NoisyHistogram", "secure_histogram"]
