"""Classifier of video: an image classifier averaged over frames."""

import math

from torch import Tensor, nn

__all__ = ["FrameAverage"]


class FrameAverage(nn.Module):
    """Classify a video by the mean probabilities of its frames.

    Returns their logarithms, so that a softmax of the output gives the mean
    probabilities themselves.

    Source: L. Wang, Y. Xiong, Z. Wang, Y. Qiao, D. Lin, X. Tang, L. Van Gool, Temporal
    Segment Networks, ECCV 2016: the average as consensus of networks that share their
    weights.

    Args:
        model (nn.Module): Classifier of images, from (B, C, H, W) to logits
            (B, classes). Its mode is not changed.

    Examples::

        >>> from captum_ext.zoo import load, sign_video
        >>> signs, video = load("signs"), sign_video(0, n_frames=4)
        >>> model = FrameAverage(signs.model)
        >>> model(signs.normalize(video.image)[None]).softmax(1).shape
        torch.Size([1, 16])
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, video: Tensor) -> Tensor:
        """Classify videos.

        Args:
            video (Tensor): Videos (B, C, T, H, W), normalized for the model.

        Returns:
            *Tensor*: Logarithms of mean probabilities, (B, classes).
        """
        frames = video.movedim(2, 1)
        logits = self.model(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return logits.log_softmax(2).logsumexp(1) - math.log(frames.shape[1])
