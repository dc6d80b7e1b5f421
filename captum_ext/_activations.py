"""Probabilities from the outputs of a classifier: softmax, sigmoid or identity."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from captum_ext._validation import check_choice

__all__ = ["ACTIVATIONS", "Activation", "log_probabilities", "probabilities"]

Activation = Literal["softmax", "sigmoid", "identity"]
ACTIVATIONS = ("softmax", "sigmoid", "identity")


def probabilities(logits: Tensor, activation: Activation) -> Tensor:
    """Probabilities of the classes.

    Args:
        logits (Tensor): Outputs of a classifier, (B, classes).
        activation (str): "softmax" for classes of which one is present, "sigmoid" for
            independent classes, "identity" for outputs that are probabilities.

    Returns:
        *Tensor*: (B, classes).

    Examples::

        >>> probabilities(torch.zeros(1, 4), "sigmoid")
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    check_choice("activation", activation, ACTIVATIONS)
    if activation == "softmax":
        return logits.softmax(1)
    return logits.sigmoid() if activation == "sigmoid" else logits


def log_probabilities(logits: Tensor, activation: Activation) -> Tensor:
    """Logarithms of :func:`probabilities`, with a gradient also where they round to 0.

    Args:
        logits (Tensor): Outputs of a classifier, (B, classes).
        activation (str): As in :func:`probabilities`.

    Returns:
        *Tensor*: (B, classes).

    Examples::

        >>> log_probabilities(torch.tensor([[-200.0]]), "sigmoid")
        tensor([[-200.]])
    """
    check_choice("activation", activation, ACTIVATIONS)
    if activation == "softmax":
        return logits.log_softmax(1)
    if activation == "sigmoid":
        return F.logsigmoid(logits)
    # The logarithm of a probability that is rounded to zero has no gradient.
    return logits.clamp_min(1e-30).log()
