"""Distances between embeddings."""

from torch import Tensor
from torch.nn import functional as F

__all__ = ["euclidean_distance"]


def euclidean_distance(embedding: Tensor, reference: Tensor) -> Tensor:
    """Euclidean distances (B,) between rows of (B, E) and of (B, E) or (1, E)."""
    # By default torch adds 1e-6 to all differences.
    return F.pairwise_distance(embedding, reference, eps=0.0)
