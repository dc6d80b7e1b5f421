"""Similarity of embeddings as a score to explain."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from captum_ext._distances import euclidean_distance
from captum_ext._outputs import output_tensor
from captum_ext._type_checks import check_callable, check_finite, check_tensor
from captum_ext._validation import check_positive
from captum_ext.targets import Distance, embedding_similarity

__all__ = ["EmbeddingSimilarity"]


class EmbeddingSimilarity(nn.Module):
    r"""Similarity of an embedding to a reference, as a function to explain.

    A retrieval or re-identification network has no class score. The similarity

    .. math::
        M(i) = \exp\Big(-\frac{d(v_i, v_{match})}{d_0}\Big)

    to the matched embedding can take its place. Distances themselves do not suit random
    masks, because a few outliers would dominate the mean. For the cosine, or where
    the network is the forward function, use
    :class:`~captum_ext.targets.SimilarityTarget`.

    Source: Y. Hatakeyama et al., Visualizing Color-wise Saliency of Black-Box Image
    Classification Models, ACCV 2020; Equation (A.12) of the supplement.

    Args:
        network (Callable): Returns embeddings (B, E) of inputs (B, ...), or an object
            with them.
        reference (Tensor): Embedding to compare all inputs with, (E,) or (1, E).
        scale (float): Typical distance d_0, above 0; the distance between the whole
            query and its match in the paper.
        distance (Callable, optional): Distance (B,) between embeddings (B, E) and
            the reference (1, E). Default: None (Euclidean)

    Raises:
        ValueError: If ``scale`` is not positive, or if the reference, an embedding or a
            distance is NaN or infinite or has another shape.
        TypeError: If an argument is of the wrong type.

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
        network: Callable[..., Any],
        reference: Tensor,
        scale: float,
        distance: Distance | None = None,
    ) -> None:
        super().__init__()
        check_callable("network", network)
        self.network = network
        reference = _check_embeddings("reference", reference, 1).detach()
        self.register_buffer("reference", reference)
        self.scale = check_positive("scale", scale)
        self.distance = distance or euclidean_distance
        check_callable("distance", self.distance)

    @classmethod
    def to_best_match(
        cls,
        network: Callable[..., Any],
        query: Tensor,
        gallery: Tensor,
        distance: Distance | None = None,
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
            ValueError: If the query is in the gallery, so that its distance is 0, or if
                the gallery or the distances are not finite.
        """
        check_callable("network", network)
        check_tensor("query", query)
        gallery = _check_embeddings("gallery", gallery)
        distance = distance or euclidean_distance
        check_callable("distance", distance)
        with torch.no_grad():
            # A copy, because a network may change its inputs in place.
            embedding = _check_embeddings(
                "network", output_tensor(network(query.clone()), "network"), 1
            )
            distances = _check_distances(distance(embedding, gallery), len(gallery))
        best = int(distances.argmin())
        if not distances[best] > 0 or torch.allclose(embedding[0], gallery[best]):
            raise ValueError(
                f"gallery must not hold the query itself, got a distance of "
                f"{float(distances[best]):.3g} at position {best}."
            )
        return cls(network, gallery[best], float(distances[best]), distance)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Similarity of each example.

        Args:
            *inputs (Tensor): Inputs of the network, (B, ...).

        Returns:
            *Tensor*: In (0, 1], (B,).
        """
        output = output_tensor(self.network(*inputs), "network")
        embeddings = _check_embeddings("network", output)
        return embedding_similarity(
            embeddings, self.reference, self.scale, self.distance
        )


def _check_embeddings(name: str, value: object, n: int | None = None) -> Tensor:
    """Finite embeddings (B, E), or n of them; (E,) is one."""
    tensor = check_finite(name, check_tensor(name, value, "embeddings, a tensor"))
    tensor = torch.atleast_2d(tensor)
    if tensor.dim() != 2 or not tensor.numel() or len(tensor) != (n or len(tensor)):
        raise ValueError(
            f"{name} must give embeddings of shape ({n or 'B'}, E), got "
            f"{tuple(tensor.shape)}."
        )
    return tensor


def _check_distances(value: object, n: int) -> Tensor:
    """Finite distances (n,)."""
    tensor = check_tensor("distance", value, "a function that returns a tensor")
    if tensor.shape != (n,):
        raise ValueError(
            f"distance must return one number for each of {n} embeddings, ({n},), got "
            f"shape {tuple(tensor.shape)}."
        )
    return check_finite("distance", tensor)
