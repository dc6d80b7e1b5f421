"""How the signs classifier is trained and judged."""

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from tqdm.auto import tqdm

from captum_ext.zoo.signs import SIGN_CLASSES, SignDataset
from captum_ext.zoo.signs_classifier.network import SignsClassifier, normalized

__all__ = [
    "FIRST_TRAINING_SEED",
    "confusion",
    "draw_scenes",
    "train_signs_classifier",
]

FIRST_TRAINING_SEED = 2**31
"""Scenes of this seed and above are for training, those below never seen."""


def train_signs_classifier(
    seed: int = 0,
    n_scenes: int = 12_000,
    n_epochs: int = 8,
    batch_size: int = 64,
    show_progress: bool = False,
) -> SignsClassifier:
    r"""Train a new classifier on scenes drawn for the purpose.

    The scenes' seeds are ``2**31 + seed * n_scenes`` and those that follow, so no
    scene of a seed below 2**31 is ever seen. Half the images are partly covered by
    patches of random colors, so that masked images are nothing new to the network.

    Args:
        seed (int): Seeds the scenes, the initial weights and the order of the batches.
        n_scenes (int): Number of scenes.
        n_epochs (int): How often each scene is used.
        batch_size (int): Number of scenes B of one step.
        show_progress (bool): Whether to show progress bars.

    Returns:
        SignsClassifier: The trained network, in eval mode.

    Raises:
        ValueError: If ``n_scenes`` is below ``batch_size``, ``n_epochs`` below 1 or
            the scenes' seeds beyond 2**32.

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
    """Draw ``n`` scenes: images (n, 3, 96, 96) as bytes, labels (n,)."""
    scenes = SignDataset(n, seed)
    images = torch.empty(n, 3, 96, 96, dtype=torch.uint8)
    labels = torch.empty(n, dtype=torch.long)
    for i in tqdm(range(n), desc="drawing scenes", disable=not show_progress):
        image, labels[i] = scenes[i]
        images[i] = image * 255
    return images, labels


@torch.no_grad()
def confusion(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """How many scenes of each class (rows) are called what (columns): (16, 16)."""
    predicted = torch.cat(
        [model(normalized(chunk / 255)).argmax(1) for chunk in images.split(64)]
    )
    n_classes = len(SIGN_CLASSES)
    counts = torch.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    return counts.view(n_classes, n_classes)


def _initialized(generator: Generator) -> SignsClassifier:
    """A network whose weights come from the generator alone."""
    with torch.random.fork_rng(devices=[]):
        model = SignsClassifier()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
    nn.init.zeros_(model.classifier.bias)
    return model


def _augmented(images: Tensor, generator: Generator) -> Tensor:
    """Images (B, 3, H, W), mirrored, relit and partly covered by colored patches."""

    def random(*shape: int) -> Tensor:
        return torch.rand(len(images), *shape, generator=generator)

    size = images.shape[2:]
    images = torch.where(random(1, 1, 1) < 0.5, images.flip(3), images)
    images = (images * (0.75 + 0.5 * random(1, 1, 1))).clamp_(0, 1)
    # Beyond [0, 1] and clipped: black, white and pure colors are as likely as others.
    colors = (random(3, 7, 7) * 2 - 0.5).clamp_(0, 1)
    colors = torch.where(random(1, 1, 1) < 0.5, colors, colors[:, :, :1, :1])
    colors = torch.where(random(1, 1, 1) < 0.3, colors, colors[:, :1])
    share = (random(1, 1, 1) * 0.8 - 0.4).clamp_(min=0)
    cover = (random(1, 7, 7) < share).float()
    cover = interpolate(cover, size, mode="bilinear", align_corners=False)
    return images.lerp(interpolate(colors, size), cover)
