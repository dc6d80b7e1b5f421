"""What we train: a network that draws the mask of a class in one forward pass.

:class:`MaskingNetwork` is the network, :class:`SaliencyObjective` says what a good mask
is, :func:`train_masking_network` trains the one by the other. From Dabkowski and Gal,
Real Time Image Saliency for Black Box Classifiers, NeurIPS 2017.
"""

from captum_ext.masking.evidence import EvidenceRemoval
from captum_ext.masking.network import MaskingNetwork
from captum_ext.masking.objective import SaliencyObjective, SaliencyTerms
from captum_ext.masking.training import train_masking_network

__all__ = [
    "EvidenceRemoval",
    "MaskingNetwork",
    "SaliencyObjective",
    "SaliencyTerms",
    "train_masking_network",
]
