"""Maps of other packages and papers from a given number of forward passes.

Each method is a function of the network's probabilities (N, 3, H, W) -> (N, K), the
normalized image (1, 3, H, W), the class, the number of passes and a seed; it returns a
map (H, W). Hidden parts are 0 in normalized space, the mean color, except where a
package has its own default: LIME (a superpixel's mean color), SHAP's partition
explainer (blur) and xaitk's MC-RISE (three colors). Superpixels are SLIC's, 50 per
image.

HSIC and Sobol attributions are xplique's methods, whose package needs TensorFlow,
written from the formulas of their papers. Packages draw from the global generators of
NumPy and torch: seed these before a call. ``missing`` imports a method's modules, so
that no call pays for it.
"""

import contextlib
import importlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from captum.attr import KernelShap, Lime
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

__all__ = [
    "PEERS",
    "SMOOTHED",
    "Method",
    "hsic",
    "packaged",
    "superpixels",
    "total_sobol",
]

Scores = Callable[[Tensor], Tensor]
# Of scores, image, class, number of passes and seed.
Explain = Callable[..., Tensor]

BATCH = 8
# ImageNet's mean color and standard deviations, by which images are normalized.
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Method(NamedTuple):
    """A method and a function that says what it lacks, "" if it can run."""

    explain: Explain
    missing: Callable[[], str]


def packaged(explain: Explain, module: str = "torch", name: str = "") -> Method:
    """Method that needs a module of a package, or a name in that module."""

    def missing() -> str:
        package = module.partition(".")[0]
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            return f"package {package} is not installed ({error})"
        if name and not hasattr(found, name):
            return f"the installed version of package {package} has no {name}"
        return ""

    return Method(explain, missing)


def rgb(x: Tensor) -> NDArray[np.float64]:
    """Image (H, W, 3) in [0, 1] of a normalized one."""
    return np.clip(x[0].permute(1, 2, 0).double().numpy() * STD + MEAN, 0, 1)


def normalized(images: NDArray[Any]) -> Tensor:
    """Normalized images (N, 3, H, W) of images (N, H, W, 3) in [0, 1]."""
    return torch.from_numpy((images - MEAN) / STD).float().permute(0, 3, 1, 2)


def superpixels(x: Tensor, n_segments: int = 50) -> Tensor:
    """SLIC regions (1, 1, H, W) of an image, numbered from 0."""
    from skimage.segmentation import slic

    labels = slic(rgb(x), n_segments=n_segments, compactness=10)
    _, index = np.unique(labels, return_inverse=True)
    return torch.from_numpy(index.reshape(1, 1, *labels.shape))


def grid(x: Tensor, side: int = 7) -> Tensor:
    """Square regions (1, 1, H, W), side x side of them."""
    cells = torch.arange(side * side).view(1, 1, side, side)
    return F.interpolate(cells.double(), x.shape[2:], mode="nearest-exact").long()


def region_scores(
    f: Scores, x: Tensor, target: int, kept: Tensor, regions: Tensor
) -> Tensor:
    """Scores (M,) of an image whose regions are multiplied by the rows of (M, n)."""
    return torch.cat(
        [
            f(x * rows[:, regions[0, 0]][:, None])[:, target]
            for rows in kept.to(x).split(BATCH)
        ]
    )


@contextlib.contextmanager
def without_progress() -> Iterator[None]:
    """Hide progress bars that a package cannot turn off."""
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def enlarged(cells: Tensor, x: Tensor) -> Tensor:
    """Map (H, W) of square cells (n,), interpolated linearly."""
    side = math.isqrt(len(cells))
    maps = cells.view(1, 1, side, side)
    return F.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=False)[0, 0]


def by_captum(
    method: Callable[..., Any], regions: Callable[[Tensor], Tensor]
) -> Explain:
    """KernelShap or Lime of Captum on regions."""

    def explain(f: Scores, x: Tensor, target: int, n_passes: int, seed: int) -> Tensor:
        return method(f).attribute(
            x,
            target=target,
            feature_mask=regions(x),
            n_samples=n_passes,
            perturbations_per_eval=BATCH,
        )[0, 0]

    return explain


def by_shapiq(name: str, **settings: object) -> Explain:
    """Approximator of shapiq on superpixels."""

    def explain(f: Scores, x: Tensor, target: int, n_passes: int, seed: int) -> Tensor:
        regions = superpixels(x)
        n = int(regions.max()) + 1
        chosen = dict(settings)
        if name == "ShaplEIG":
            # The default first design, n + 1 coalitions, where the budget allows it.
            chosen["initial_design_size"] = min(n + 1, n_passes // 2)

        def game(coalitions: NDArray[Any]) -> NDArray[Any]:
            kept = torch.from_numpy(np.atleast_2d(coalitions))
            return region_scores(f, x, target, kept, regions).double().numpy()

        approximators = importlib.import_module("shapiq.approximator")
        approximator = getattr(approximators, name)(n=n, random_state=seed, **chosen)
        values = approximator.approximate(n_passes, game).get_n_order_values(1)
        return torch.from_numpy(np.asarray(values))[regions[0, 0]]

    return explain


def hsic(kept: Tensor, scores: Tensor) -> Tensor:
    """Dependence (n,) between each of n binary cells (M, n) and the scores (M,).

    The mean over pairs of samples of the product of centered Gram matrices: a binary
    kernel 1/2 - (x - x')^2 for cells, a Gaussian kernel for scores whose width is the
    median distance of two scores. (xplique's width, the median score, gives worse maps
    of probabilities.)

    Source: P. Novello, T. Fel, D. Vigouroux, Making Sense of Dependence: Efficient
    Black-box Explanations Using Dependence Measure, NeurIPS 2022.
    """
    kept, y = kept.double(), scores.double()
    width = torch.pdist(y[:, None]).quantile(0.5).clamp(min=1e-12)
    L = torch.exp(-((y[:, None] - y) ** 2) / (2 * width**2))
    L = L - L.mean(0) - L.mean(1, keepdim=True) + L.mean()
    K = 0.5 - (kept.T[:, :, None] - kept.T[:, None]) ** 2
    # Centering one of the two matrices is enough for the sum of their product.
    return (K * L).mean((1, 2))


def hsic_map(f: Scores, x: Tensor, target: int, n_passes: int, seed: int) -> Tensor:
    """HSIC attribution: binary Latin hypercube masks on 7 x 7 cells."""
    draws = qmc.LatinHypercube(49, rng=seed).random(n_passes)
    kept = torch.from_numpy(draws.round())
    return enlarged(hsic(kept, region_scores(f, x, target, kept, grid(x, 7))), x)


def sobol_design(n_cells: int, n_rows: int, seed: int) -> Tensor:
    """Matrix A, and for each cell A with that column of B, ((n_cells + 1) N, n_cells).

    A and B are the halves of a scrambled Sobol sequence.
    """
    exponent = max(n_rows - 1, 1).bit_length()
    sequence = qmc.Sobol(2 * n_cells, rng=seed).random_base2(exponent)[:n_rows]
    a, b = torch.from_numpy(sequence).split(n_cells, 1)
    columns = torch.eye(n_cells, dtype=torch.bool)
    return torch.cat([a, torch.where(columns[:, None], b, a).flatten(0, 1)])


def total_sobol(scores: Tensor, n_rows: int) -> Tensor:
    """Total Sobol indices (n,) by Jansen's estimator from scores of the design.

    Source: T. Fel, R. Cadene et al., Look at the Variance! Efficient Black-box
    Explanations with Sobol-based Sensitivity Analysis, NeurIPS 2021.
    """
    a, *others = scores.double().split(n_rows)
    variance = a.var().clamp(min=1e-12)
    return (a - torch.stack(others)).square().mean(1) / (2 * variance)


def sobol_map(f: Scores, x: Tensor, target: int, n_passes: int, seed: int) -> Tensor:
    """Sobol attribution on the finest grid, at most 8 x 8, with four rows or more.

    N rows on d cells cost N (d + 1) passes: the estimator does not use the scores of B.
    """
    side = max(s for s in range(2, 9) if s == 2 or 4 * (s * s + 1) <= n_passes)
    n_rows = max(n_passes // (side * side + 1), 2)
    design = sobol_design(side * side, n_rows, seed)
    scores = region_scores(f, x, target, design, grid(x, side))
    return enlarged(total_sobol(scores, n_rows), x)


def dianna_rise(f: Scores, x: Tensor, target: int, n_passes: int, seed: int) -> Tensor:
    """RISE of dianna on its default grid, p = 0.5 as in the paper."""
    RISEImage = importlib.import_module("dianna.methods.rise_image").RISEImage

    def scores(batch: NDArray[Any]) -> NDArray[Any]:
        return f(torch.from_numpy(np.asarray(batch, dtype=np.float32))).numpy()

    explainer = RISEImage(n_masks=n_passes, p_keep=0.5)
    image = x[0].contiguous().numpy()
    with without_progress():
        maps = explainer.explain(scores, image, [target], batch_size=BATCH)
    return torch.from_numpy(np.asarray(maps[0]))


def by_xaitk(stack: Callable[[int, int], Any]) -> Explain:
    """Stack of xaitk-saliency built from the number of masks and a seed."""

    def explain(f: Scores, x: Tensor, target: int, n_passes: int, seed: int) -> Tensor:
        module = importlib.import_module("smqtk_classifier.interfaces.classify_image")

        class Classifier(module.ClassifyImage):  # type: ignore[name-defined]
            def get_labels(self) -> list[int]:
                return [target]

            def classify_images(
                self, images: Iterable[NDArray[Any]]
            ) -> Iterator[dict[int, float]]:
                remaining = iter(images)
                while batch := list(islice(remaining, BATCH)):
                    scores = f(normalized(np.stack(batch) / 255))[:, target]
                    yield from ({target: float(score)} for score in scores)

            def get_config(self) -> dict[str, Any]:
                return {}

        # One pass is that of the whole image.
        explainer = stack(n_passes - 1, seed)
        if hasattr(explainer, "fill"):
            explainer.fill = (255 * MEAN).round().astype(int).tolist()
        image = (255 * rgb(x)).round().astype(np.uint8)
        maps = explainer.generate(image, Classifier())
        # MC-RISE has a map for each color: what painting adds to the score.
        return torch.from_numpy(maps[0] if maps.ndim == 3 else -maps.mean(0)[0])

    return explain


XAITK = "xaitk_saliency.impls.gen_image_classifier_blackbox_sal"


def xaitk_rise(n_masks: int, seed: int) -> Any:
    stack = importlib.import_module(f"{XAITK}.rise").RISEStack
    return stack(n=n_masks, s=8, p1=0.5, seed=seed)


def xaitk_mc_rise(n_masks: int, seed: int) -> Any:
    stack = importlib.import_module(f"{XAITK}.mc_rise").MCRISEStack
    colors = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    return stack(n=n_masks, s=8, p1=0.5, fill_colors=colors, seed=seed)


def xaitk_window(n_masks: int, seed: int) -> Any:
    """Windows of the default size, 50 pixels, as densely as the budget allows."""
    stack = importlib.import_module(f"{XAITK}.slidingwindow").SlidingWindowStack
    step = math.ceil(224 / math.isqrt(n_masks))
    return stack(window_size=(50, 50), stride=(step, step))


def lime_image(f: Scores, x: Tensor, target: int, n_passes: int, seed: int) -> Tensor:
    """LIME of package lime with its defaults: quickshift, mean colors, ridge."""
    module = importlib.import_module("lime.lime_image")
    explainer = module.LimeImageExplainer(random_state=seed)
    with without_progress():
        explanation = explainer.explain_instance(
            rgb(x),
            lambda images: f(normalized(images)).double().numpy(),
            labels=(target,),
            top_labels=None,
            num_samples=n_passes,
            batch_size=BATCH,
            random_seed=seed,
        )
    segments = torch.from_numpy(explanation.segments)
    weights = torch.zeros(int(segments.max()) + 1, dtype=torch.float64)
    for region, weight in explanation.local_exp[target]:
        weights[region] = weight
    return weights[segments]


def partition_shap(
    f: Scores, x: Tensor, target: int, n_passes: int, seed: int
) -> Tensor:
    """Owen values of SHAP's partition explainer on a blurred background."""
    shap = importlib.import_module("shap")
    image = x[0].permute(1, 2, 0).contiguous().numpy()

    def scores(images: NDArray[Any]) -> NDArray[Any]:
        batch = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        return f(batch)[:, target].double().numpy()

    masker = shap.maskers.Image("blur(128,128)", image.shape)
    explainer = shap.PartitionExplainer(scores, masker)
    found = explainer(image[None], max_evals=n_passes, batch_size=BATCH, silent=True)
    return torch.from_numpy(found.values[0].sum(2))


SHAPIQ = "shapiq.approximator"

PEERS: dict[str, Method] = {
    "captum_kernelshap_grid": packaged(by_captum(KernelShap, grid)),
    "captum_kernelshap": packaged(by_captum(KernelShap, superpixels), "skimage"),
    "captum_lime_grid": packaged(by_captum(Lime, grid)),
    "captum_lime": packaged(by_captum(Lime, superpixels), "skimage"),
    "shapiq_kernelshap": packaged(by_shapiq("KernelSHAP"), SHAPIQ, "KernelSHAP"),
    "shapiq_kaddshap": packaged(by_shapiq("kADDSHAP"), SHAPIQ, "kADDSHAP"),
    "shapiq_regression_msr": packaged(
        by_shapiq("RegressionMSR", index="SV"), SHAPIQ, "RegressionMSR"
    ),
    "shapiq_shapleig": packaged(
        by_shapiq("ShaplEIG", refit="decaying", show_progress=False),
        SHAPIQ,
        "ShaplEIG",
    ),
    "hsic": packaged(hsic_map),
    "sobol": packaged(sobol_map),
    "dianna_rise": packaged(dianna_rise, "dianna.methods.rise_image"),
    "xaitk_rise": packaged(by_xaitk(xaitk_rise), f"{XAITK}.rise"),
    "xaitk_mc_rise": packaged(by_xaitk(xaitk_mc_rise), f"{XAITK}.mc_rise"),
    "xaitk_window": packaged(by_xaitk(xaitk_window), f"{XAITK}.slidingwindow"),
    "lime": packaged(lime_image, "lime.lime_image"),
    "shap_partition": packaged(partition_shap, "shap"),
}


def smooth_partition_shap(
    f: Scores, x: Tensor, target: int, n_passes: int, seed: int
) -> Tensor:
    """Map of SHAP's partition explainer without its edges: blurred by 12 pixels."""
    maps = partition_shap(f, x, target, n_passes, seed)
    return gaussian_blur(maps[None, None], [73, 73], [12.0, 12.0])[0, 0]


# To tell what a map says from the edges of its parts.
SMOOTHED = {"shap_partition_smooth": packaged(smooth_partition_shap, "shap")}
