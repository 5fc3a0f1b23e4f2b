"""Local differential privacy: answers made private on the device, for channels that trust nobody.

    mechanism = HadamardResponse(("red", "green", "blue"), epsilon=1)
    report = mechanism.encode("green", os.urandom)                      # on the device
    supports = mechanism.supports(np.array(reports))                    # anywhere; batches add up
    estimate = mechanism.estimate(supports, len(reports))               # unbiased, with standard errors

Proof notes stand with each class (`Guarantees`) and in `coins` and `estimates`.
"""

from .coins import RandomBytes
from .estimates import FrequencyEstimate
from .hadamard import HadamardResponse
from .mechanism import LocalMechanism
from .response import RandomizedResponse
from .unary import UnaryEncoding

__all__ = [
    "FrequencyEstimate",
    "HadamardResponse",
    "LocalMechanism",
    "RandomBytes",
    "RandomizedResponse",
    "UnaryEncoding",
]
