"""Classifier of video: an image classifier averaged over frames."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext._activations import ACTIVATIONS, Activation
from captum_ext._outputs import output_tensor
from captum_ext._validation import check_choice

__all__ = ["FrameAverage"]


class FrameAverage(nn.Module):
    """Classify a video by the mean probabilities of its frames.

    Returns their logarithms, so that a softmax of the output gives the mean
    probabilities themselves; for another activation of the classifier, the values of
    which it gives them.

    Source: L. Wang, Y. Xiong, Z. Wang, Y. Qiao, D. Lin, X. Tang, L. Van Gool, Temporal
    Segment Networks, ECCV 2016: the average as consensus of networks that share their
    weights.

    Args:
        model (nn.Module): Classifier of images, from (B, C, H, W) to logits
            (B, classes), or an object with them. Its mode is not changed.
        activation (str, optional): Activation of the classifier, as in
            :class:`ZooModel`. Default: "softmax"

    Examples::

        >>> from captum_ext.zoo import load, sign_video
        >>> signs, video = load("signs"), sign_video(0, n_frames=4)
        >>> model = FrameAverage(signs.model)
        >>> model(signs.normalize(video.image)[None]).softmax(1).shape
        torch.Size([1, 16])
    """

    def __init__(self, model: nn.Module, activation: Activation = "softmax") -> None:
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        self.model, self.activation = model, activation
        self.training = model.training

    def forward(self, video: Tensor) -> Tensor:
        """Classify videos.

        Args:
            video (Tensor): Videos (B, C, T, H, W), normalized for the model.

        Returns:
            *Tensor*: Logarithms of mean probabilities p, (B, classes); for "sigmoid"
            log p - log(1 - p), for "identity" p.
        """
        frames = video.movedim(2, 1)
        outputs = output_tensor(self.model(frames.flatten(0, 1)))
        logits = outputs.reshape(*frames.shape[:2], -1)
        if self.activation == "identity":
            return logits.mean(1)
        if self.activation == "sigmoid":
            present, absent = F.logsigmoid(logits), F.logsigmoid(-logits)
            return present.logsumexp(1) - absent.logsumexp(1)
        return logits.log_softmax(2).logsumexp(1) - math.log(frames.shape[1])
