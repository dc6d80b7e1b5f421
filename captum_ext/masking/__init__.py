"""Masking networks: the mask of a class in one forward pass, and their training.

:class:`MaskingNetwork` is the network, :class:`SaliencyObjective` the training
objective (Eq. 4), and :func:`train_masking_network` minimizes it. From Dabkowski and
Gal, Real Time Image Saliency for Black Box Classifiers, NeurIPS 2017.
"""

from captum_ext.masking.evidence_removal import EvidenceRemoval
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
