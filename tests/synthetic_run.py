"""Synthetic results in the format of a run."""

import itertools

import numpy as np
from PIL import Image

from captum_ext._files import save_image
from captum_ext.evaluation import image_path, map_path
from captum_ext.evaluation.result_tables import merge_tables
from captum_ext.evaluation.run_folder import Row, RowWriter, start_run

METHODS = {"rise": {"use": "rise"}, "quick": {"use": "rise", "n_masks": 50}}
METHODS |= {"pn-rise": {"use": "pn-rise"}, "random": {"use": "random"}}
METRICS = {name: {"use": name} for name in ("insertion", "deletion", "pointing-game")}
BETTER = {"insertion": "higher", "deletion": "lower", "pointing-game": "higher"}
HOSTILE = "<img src=x onerror=alert(1)>&amp;\"'.png"
SCRIPT = "<script>alert('error')</script>"


def write_run(folder, n=12, methods=METHODS, metrics=METRICS, images=True):
    """Write results in which each method is better than the next."""
    rng = np.random.default_rng(0)
    names = [HOSTILE, *(f"image {i}.jpg" for i in range(1, n))]
    settings = {
        "dataset": {"source": SCRIPT, "images": n},
        "model": {"name": "signs", "sha256": "0" * 64},
        "methods": methods,
        "metrics": metrics,
    }
    start_run(folder, settings, {"captum_ext": "0.1.0", "command": SCRIPT})
    with RowWriter(folder, 0) as writer:
        for name in names:
            if images:
                save_image(noise(rng), image_path(folder, name))
            for (place, method), metric in itertools.product(
                enumerate(methods), metrics
            ):
                if images:
                    save_image(noise(rng), map_path(folder, name, method))
                good = float(np.clip(0.8 - 0.15 * place + rng.normal(0, 0.1), 0, 1))
                value = good if BETTER[metric] == "higher" else 1 - good
                curve = [0.0, value, 1.0]
                if metric == "pointing-game":
                    value, curve = float(good > 0.5), None
                row = Row(name, 3, 3, 0.9, method, metric, value, None, curve, 0.5)
                if name == names[-1] and method == "rise":
                    row = row._replace(value=None, curve=None, error=SCRIPT)
                writer.append(row)
    merge_tables(folder, names)
    return folder


def noise(rng, side=32):
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
