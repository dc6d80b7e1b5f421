"""Similarity of embeddings as a score to explain."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["EmbeddingSimilarity"]


class EmbeddingSimilarity(nn.Module):
    r"""Similarity of an embedding to a reference, as a function to explain.

    A retrieval or re-identification network has no class score. The similarity

    .. math::
        M(i) = \exp\Big(-\frac{d(v_i, v_{match})}{d_0}\Big)

    to the matched embedding can take its place. Distances themselves do not suit random
    masks, because a few outliers would dominate the mean.

    Source: Y. Hatakeyama et al., Visualizing Color-wise Saliency of Black-Box Image
    Classification Models, ACCV 2020; Equation (A.12) of the supplement.

    Args:
        network (Callable): Returns embeddings (B, E) of inputs (B, ...).
        reference (Tensor): Embedding to compare all inputs with, (E,) or (1, E).
        scale (float): Typical distance d_0, above 0; the distance between the whole
            query and its match in the paper.
        distance (Callable, optional): Distance (B,) between embeddings (B, E) and
            the reference (1, E). Default: None (Euclidean)

    Raises:
        ValueError: If ``scale`` is not positive.

    Examples::

        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8))
        >>> gallery = torch.randn(10, 8)
        >>> query = torch.rand(1, 3, 32, 32)
        >>> score = EmbeddingSimilarity.to_best_match(network, query, gallery)
        >>> PNRISE(score).attribute(query).shape
        torch.Size([1, 3, 32, 32])
    """

    reference: Tensor

    def __init__(
        self,
        network: Callable[..., Tensor],
        reference: Tensor,
        scale: float,
        distance: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale must be a positive distance, got {scale}.")
        self.network = network
        self.register_buffer("reference", torch.atleast_2d(reference.detach()))
        self.scale = scale
        self.distance = distance or nn.functional.pairwise_distance

    @classmethod
    def to_best_match(
        cls,
        network: Callable[..., Tensor],
        query: Tensor,
        gallery: Tensor,
        distance: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> "EmbeddingSimilarity":
        """Similarity to the nearest embedding of a gallery, scaled by its distance.

        Args:
            network (Callable): Returns embeddings (B, E) of inputs (B, ...).
            query (Tensor): One input (1, ...).
            gallery (Tensor): Embeddings to match, (N, E).
            distance (Callable, optional): Distance as for the class. Default: None

        Returns:
            *EmbeddingSimilarity*: Similarity whose value for the query is exp(-1).

        Raises:
            ValueError: If the query is in the gallery, so that its distance is 0.
        """
        with torch.no_grad():
            distances = (distance or nn.functional.pairwise_distance)(
                network(query), gallery
            )
        best = int(distances.argmin())
        return cls(network, gallery[best], float(distances[best]), distance)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Similarity of each example.

        Args:
            *inputs (Tensor): Inputs of the network, (B, ...).

        Returns:
            *Tensor*: In (0, 1], (B,).
        """
        embedding = self.network(*inputs)
        return torch.exp(-self.distance(embedding, self.reference) / self.scale)
