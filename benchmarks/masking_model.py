"""Cost of a masking network's masks and training, relative to the unavoidable passes.

"batch_1" and "batch_32" compare a forward pass of the network with one of its encoder
alone, in eval mode. "step" compares a training step with the passes that it needs: the
classifier's forward and backward pass, to the images, for both edited versions of each
image whose own class is requested; the encoder's forward pass; and the decoder's
forward and backward pass, or those of encoder and decoder if the encoder is trained.
Both sides run alternately; ratios are medians over the repeats. Weights are random,
which does not change the cost. Freed memory is kept, as in the commands.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch
from images import load_network
from torch import Tensor, nn
from torchvision.models import get_model

from captum_ext._allocator import keep_freed_memory
from captum_ext.masking import MaskingNetwork, SaliencyObjective
from captum_ext.masking.eval_mode import eval_mode
from captum_ext.masking.sampling import Sample
from captum_ext.masking.trainer import Trainer


class Case(NamedTuple):
    """Masking network to measure: its encoder, classifier, and images."""

    encoder: str
    black_box: Callable[[], nn.Module]
    size: int
    n_classes: int
    batch_size: int


CASES = {
    "resnet50_224": Case(
        "resnet50", lambda: get_model("resnet50", weights=None), 224, 1000, 4
    ),
    "mobilenet_v2_224": Case(
        "mobilenet_v2", lambda: get_model("mobilenet_v2", weights=None), 224, 1000, 8
    ),
    "small_32": Case("small", lambda: load_network("resnet20").model, 32, 10, 64),
}
FAKE_PROBABILITY = 0.3


def compared(
    call: Callable[[], object], reference: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Median seconds of the call, and median ratio to those of the reference."""
    call(), reference()
    times = [(seconds(call), seconds(reference)) for _ in range(repeats)]
    return median(t[0] for t in times), median(t[0] / t[1] for t in times)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def masks(case: Case, batch_size: int, repeats: int) -> dict[str, float]:
    network = MaskingNetwork(case.n_classes, case.encoder).eval()
    network = network.to(memory_format=torch.channels_last)
    x = images(batch_size, case.size)
    target = torch.arange(batch_size) % case.n_classes
    with torch.no_grad():
        took, ratio = compared(
            lambda: network(x, target), lambda: network.encoder(x), repeats
        )
    return {
        "over_encoder": round(ratio, 3),
        "masks_per_second": round(batch_size / took, 2),
    }


def step(case: Case, repeats: int) -> dict[str, float]:
    batch_size = case.batch_size
    network = MaskingNetwork(case.n_classes, case.encoder)
    black_box = case.black_box().to(memory_format=torch.channels_last)
    settings = {
        "training": {
            "n_images": 1000 * batch_size,
            "n_epochs": 1,
            "batch_size": batch_size,
            "learning_rate": 1e-3,
            "weight_decay": 1e-2,
            "max_gradient_norm": 1.0,
        }
    }
    x = images(batch_size, case.size)
    n_fake = round(FAKE_PROBABILITY * batch_size)
    samples = [
        Sample(each.contiguous(), int(i < n_fake), 0, i) for i, each in enumerate(x)
    ]
    edited = images(2 * (batch_size - n_fake), case.size).requires_grad_()
    target = torch.zeros(batch_size, dtype=torch.long)
    with eval_mode(black_box):
        trainer = Trainer(network, black_box, SaliencyObjective(), settings)

        def necessary() -> None:
            logits = black_box(edited)
            torch.autograd.grad(logits[:, 0].sum(), edited)
            drawn, class_logits = network.with_class_logits(x, target)
            (drawn.sum() + class_logits.sum()).backward()

        took, ratio = compared(lambda: trainer.train_step(samples), necessary, repeats)
    return {
        "batch_size": batch_size,
        "over_passes": round(ratio, 3),
        "seconds": round(took, 3),
    }


def images(n: int, size: int) -> Tensor:
    x = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=CASES, help="one network (default: all)")
    arguments = parser.parse_args()
    keep_freed_memory()
    result: dict[str, object] = {"benchmark": "masking_model"}
    for name in [arguments.only] if arguments.only else CASES:
        case = CASES[name]
        result[name] = {
            # A single mask takes milliseconds.
            "batch_1": masks(case, 1, 10 * arguments.repeats),
            "batch_32": masks(case, 32, arguments.repeats),
            "step": step(case, arguments.repeats),
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result["peak_mb"] = round(peak)
    result["repeats"] = arguments.repeats
    result["threads"] = torch.get_num_threads()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
