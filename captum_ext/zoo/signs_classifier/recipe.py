"""Training and evaluation of the signs classifier."""

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from tqdm.auto import tqdm

from captum_ext.zoo.construction import build
from captum_ext.zoo.signs import SIGN_CLASSES, SignDataset
from captum_ext.zoo.signs_classifier.architecture import SignsClassifier, normalized

__all__ = [
    "FIRST_TRAINING_SEED",
    "confusion",
    "draw_scenes",
    "train_signs_classifier",
]

FIRST_TRAINING_SEED = 2**31
"""First seed of training scenes; scenes with smaller seeds are held out."""


def train_signs_classifier(
    seed: int = 0,
    n_scenes: int = 12_000,
    n_epochs: int = 8,
    batch_size: int = 64,
    show_progress: bool = False,
) -> SignsClassifier:
    r"""Train a classifier on newly drawn scenes.

    The seeds of the scenes start at ``2**31 + seed * n_scenes``, so scenes with seeds
    below 2**31 are held out. Half of the images are partly covered by patches of random
    colors, so that the network is trained on masked images too.

    Args:
        seed (int, optional): Seed of the scenes, the initial weights and the order of
            the batches. Default: 0
        n_scenes (int, optional): Number of scenes. Default: 12000
        n_epochs (int, optional): Number of passes over the scenes. Default: 8
        batch_size (int, optional): Number of scenes per step. Default: 64
        show_progress (bool, optional): Whether to show progress bars. Default: False

    Returns:
        SignsClassifier: Trained network in eval mode.

    Raises:
        ValueError: If ``n_scenes`` is below ``batch_size``, ``n_epochs`` is below 1 or
            a seed of the scenes exceeds 2**32 - 1.

    Examples::

        >>> from captum_ext.zoo import train_signs_classifier
        >>> model = train_signs_classifier(n_scenes=128, n_epochs=1)
    """
    if n_scenes < batch_size:
        raise ValueError(
            f"n_scenes must be at least one batch of {batch_size}, got {n_scenes}."
        )
    if n_epochs < 1:
        raise ValueError(f"n_epochs must be at least 1, got {n_epochs}.")
    first_seed = FIRST_TRAINING_SEED + seed * n_scenes
    images, labels = draw_scenes(n_scenes, first_seed, show_progress)
    generator = Generator().manual_seed(seed)
    model = _initialized(generator).train()
    optimizer = AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    n_steps = n_epochs * (n_scenes // batch_size)
    schedule = OneCycleLR(optimizer, max_lr=4e-3, total_steps=n_steps)
    with tqdm(total=n_steps, desc="training", disable=not show_progress) as progress:
        for _ in range(n_epochs):
            order = torch.randperm(n_scenes, generator=generator)
            for batch in order.split(batch_size)[: n_scenes // batch_size]:
                inputs = _augmented(images[batch] / 255, generator)
                loss = cross_entropy(model(normalized(inputs)), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.update()
    return model.eval()


def draw_scenes(n: int, seed: int, show_progress: bool) -> tuple[Tensor, Tensor]:
    """Draw ``n`` scenes: images (n, 3, 96, 96) as uint8 and labels (n,)."""
    scenes = SignDataset(n, seed)
    images = torch.empty(n, 3, 96, 96, dtype=torch.uint8)
    labels = torch.empty(n, dtype=torch.long)
    for i in tqdm(range(n), desc="drawing scenes", disable=not show_progress):
        image, labels[i] = scenes[i]
        images[i] = image * 255
    return images, labels


@torch.no_grad()
def confusion(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Confusion matrix (16, 16): counts by true class (rows) and predicted class."""
    predicted = torch.cat(
        [model(normalized(chunk / 255)).argmax(1) for chunk in images.split(64)]
    )
    n_classes = len(SIGN_CLASSES)
    counts = torch.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    return counts.view(n_classes, n_classes)


def _initialized(generator: Generator) -> SignsClassifier:
    """Build a network whose weights depend only on the generator."""
    model = build(SignsClassifier)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
    nn.init.zeros_(model.classifier.bias)
    return model


def _augmented(images: Tensor, generator: Generator) -> Tensor:
    """Randomly mirror, relight and partly cover images (B, 3, H, W)."""

    def random(*shape: int) -> Tensor:
        return torch.rand(len(images), *shape, generator=generator)

    size = images.shape[2:]
    images = torch.where(random(1, 1, 1) < 0.5, images.flip(3), images)
    images = (images * (0.75 + 0.5 * random(1, 1, 1))).clamp_(0, 1)
    # Clipping a wider range makes black, white and pure colors as likely as others.
    colors = (random(3, 7, 7) * 2 - 0.5).clamp_(0, 1)
    colors = torch.where(random(1, 1, 1) < 0.5, colors, colors[:, :, :1, :1])
    colors = torch.where(random(1, 1, 1) < 0.3, colors, colors[:, :1])
    share = (random(1, 1, 1) * 0.8 - 0.4).clamp_(min=0)
    cover = (random(1, 7, 7) < share).float()
    cover = interpolate(cover, size, mode="bilinear", align_corners=False)
    return images.lerp(interpolate(colors, size), cover)
