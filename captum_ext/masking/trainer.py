"""Training step of a masking network, and the state that it updates."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from captum_ext._processes import world_size
from captum_ext.masking.network import MaskingNetwork, MasksAndLogits
from captum_ext.masking.objective import SaliencyObjective, SaliencyTerms
from captum_ext.masking.sampling import Sample, stacked_images

__all__ = ["Trainer"]


class Trainer:
    """Network, optimizer and learning rate schedule of a training run.

    Args:
        network (MaskingNetwork): Network to train.
        black_box (Callable): Function that returns logits (B, classes) of images, with
            frozen parameters.
        objective (SaliencyObjective): Objective to minimize.
        settings (Mapping): Everything that determines the result.
    """

    def __init__(
        self,
        network: MaskingNetwork,
        black_box: Callable[[Tensor], Tensor],
        objective: SaliencyObjective,
        settings: Mapping[str, Any],
    ) -> None:
        self.network = network.train().to(memory_format=torch.channels_last)
        self.black_box, self.objective, self.settings = black_box, objective, settings
        self.device = next(network.parameters()).device
        training = settings["training"]
        self.n_images = training["n_images"]
        self.batch_size = training["batch_size"]
        self.n_steps = training["n_epochs"] * (self.n_images // self.batch_size)
        self.step = 0
        self.optimizer = AdamW(
            [p for p in network.parameters() if p.requires_grad],
            training["learning_rate"],
            weight_decay=training["weight_decay"],
        )
        self.schedule = OneCycleLR(
            self.optimizer, training["learning_rate"], max(2, self.n_steps)
        )
        self.world_size = world_size()
        self.model: nn.Module = _WithClassLogits(network)

    def distribute(self) -> None:
        """Synchronize weights, and gradients from now on, over all processes."""
        if self.world_size > 1:
            self.model = DistributedDataParallel(self.model)

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to resume the run."""
        return {
            "settings": self.settings,
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what :meth:`state_dict` returned.

        Args:
            state (Mapping): State of a run with the same settings.

        Raises:
            ValueError: If the settings differ, or the weights do not fit.
        """
        for part, expected in self.settings.items():
            found = state.get("settings", {}).get(part, {})
            for name, value in expected.items():
                if found.get(name) != value:
                    raise ValueError(
                        f"output must be a folder of a training run with the same "
                        f"arguments, with {name} = {value!r} of the {part}, got a "
                        f"checkpoint with {found.get(name)!r}."
                    )
        self.network.fill(state["network"], "output")
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]

    def train_step(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Update the network on this process's share of a batch.

        Args:
            samples (sequence of Sample): Share of this process, at least one sample.

        Returns:
            *dict*: Row of the log: step, epoch, learning rate, norm of the gradient,
            and means of the loss and its terms over all processes.

        Raises:
            ValueError: If a term or a gradient is NaN or infinite; the weights are
                unchanged then.
        """
        self.optimizer.zero_grad(set_to_none=True)
        terms = self._terms(samples)
        means = self._means(terms)
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise ValueError(
                    f"black_box and network must give finite terms, got {mean} for "
                    f"{name} at step {self.step}."
                )
        # DDP averages gradients over processes, whose shares are of unequal size if
        # their number does not divide the batch size.
        (terms.total.sum() * (self.world_size / self.batch_size)).backward()
        norm = nn.utils.clip_grad_norm_(
            self.network.parameters(),
            self.settings["training"]["max_gradient_norm"],
        ).item()
        if not math.isfinite(norm):
            raise ValueError(
                f"black_box and network must give finite gradients, got {norm} at step "
                f"{self.step}, where the terms are {means}."
            )
        row = {
            "step": self.step,
            "epoch": self.step // (self.n_images // self.batch_size),
            "learning_rate": self.schedule.get_last_lr()[0],
            "loss": sum(means.values()),
            **means,
            "gradient_norm": norm,
        }
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return row

    def _terms(self, samples: Sequence[Sample]) -> SaliencyTerms:
        images = stacked_images([sample.image for sample in samples])
        images = images.to(self.device, memory_format=torch.channels_last)
        target = torch.tensor([s.target for s in samples], device=self.device)
        labels = torch.tensor([s.label for s in samples], device=self.device)
        generators = [Generator().manual_seed(s.seed) for s in samples]
        found = [sample.map for sample in samples if sample.map is not None]
        maps = torch.stack(found).to(self.device) if found else None
        with _autocast(self.device):
            masks, logits = self.model(images, target)
            return self.objective(
                self.black_box, images, masks, target, generators, labels, logits, maps
            )

    def _means(self, terms: SaliencyTerms) -> dict[str, float]:
        """Mean of each term over the batch of all processes."""
        sums = torch.stack([each.detach().sum() for each in terms]) / self.batch_size
        if self.world_size > 1:
            distributed.all_reduce(sums)
        return dict(zip(terms._fields, sums.tolist()))


class _WithClassLogits(nn.Module):
    """Masks and class logits as a forward pass, which DDP needs."""

    def __init__(self, network: MaskingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, target: Tensor) -> MasksAndLogits:
        return self.network.with_class_logits(inputs, target)


def _autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    # bfloat16 has the range of float32: gradients need no scaler.
    if device.type == "cuda" and torch.cuda.is_bf16_supported(
        including_emulation=False
    ):
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()
