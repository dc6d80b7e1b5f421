"""Captum's generic test configurations, run on the classes of this package."""

import copy

import pytest
import torch
from captum.attr import FeatureAblation, LayerGradCam, NoiseTunnel

from captum_ext.attr import PNRISE, RISE, LayerCAMERAS, LayerGradCamPlusPlus

pytest.importorskip(
    "captum.testing.attr.helpers",
    reason="this version of Captum does not ship its test configurations",
)
from captum.testing.attr.helpers.gen_test_utils import (  # noqa: E402
    parse_test_config,
)
from captum.testing.attr.helpers.test_config import config  # noqa: E402

# Every configuration that Captum runs FeatureAblation on fits a method that masks.
CONFIGS = {c["name"]: c for c in config if FeatureAblation in c["algorithms"]}
LAYER_CONFIGS = {c["name"]: c for c in config if LayerGradCam in c["algorithms"]}


def test_configurations_are_found():
    assert len(CONFIGS) > 10 and len(LAYER_CONFIGS) > 5


@pytest.mark.parametrize("method", [RISE, PNRISE])
@pytest.mark.parametrize("name", CONFIGS)
def test_generic_configuration(method, name):
    """A batch equals its examples one by one, as in Captum's test_targets."""
    _, model, args, _, noise_tunnel, _ = parse_test_config(CONFIGS[name])
    model, args = copy.deepcopy(model).eval(), dict(args)
    explainer = method(model)
    if noise_tunnel:
        explainer = NoiseTunnel(explainer)
    result = explainer.attribute(**args)
    inputs = args["inputs"]
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    results = result if isinstance(result, tuple) else (result,)
    assert isinstance(result, tuple) == isinstance(inputs, tuple)
    assert [r.shape for r in results] == [t.shape for t in tensors]

    assert_examples_stand_alone(explainer, args, results)


def assert_examples_stand_alone(explainer, args, results):
    def of_example(value, i):
        if isinstance(value, torch.Tensor) and value.numel() > 1 and len(value) > 1:
            return value[i : i + 1]
        if isinstance(value, tuple):
            return tuple(of_example(v, i) for v in value)
        return value

    def target_of_example(target, i):
        if isinstance(target, list):
            return [target[i]]
        return of_example(target, i) if isinstance(target, torch.Tensor) else target

    for i in range(len(results[0])):
        single = {
            k: target_of_example(v, i) if k == "target" else of_example(v, i)
            for k, v in args.items()
        }
        alone = explainer.attribute(**single)
        alone = alone if isinstance(alone, tuple) else (alone,)
        for part, whole in zip(alone, results):
            torch.testing.assert_close(part, whole[i : i + 1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", LAYER_CONFIGS)
def test_generic_layer_configuration(name):
    """Maps have the shapes of Captum's LayerGradCam and do not depend on the batch."""
    _, model, args, layer, _, _ = parse_test_config(LAYER_CONFIGS[name])
    model, args = copy.deepcopy(model).eval(), dict(args)
    layer = model.get_submodule(layer)
    results, theirs = (
        method(model, layer).attribute(**args)
        for method in (LayerGradCamPlusPlus, LayerGradCam)
    )
    assert isinstance(results, tuple) == isinstance(theirs, tuple)
    results = results if isinstance(results, tuple) else (results,)
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    assert [r.shape for r in results] == [t.shape for t in theirs]
    explainer = LayerGradCamPlusPlus(model, layer)
    assert_examples_stand_alone(explainer, args, results)
    wrapped = LayerGradCamPlusPlus(torch.nn.DataParallel(model), layer)
    parallel = wrapped.attribute(**args)
    parallel = parallel if isinstance(parallel, tuple) else (parallel,)
    torch.testing.assert_close(parallel, results, atol=1e-5, rtol=1e-4)


def test_generic_configuration_of_images():
    """The only layer configuration with maps; its model has one image size."""
    (found,) = [
        c for c in LAYER_CONFIGS.values() if c["attribute_args"]["inputs"][0].dim() == 3
    ]
    _, model, args, layer, _, _ = parse_test_config(found)
    model = copy.deepcopy(model).eval()
    explainer = LayerCAMERAS(model, model.get_submodule(layer))
    args = {**args, "n_steps": 1, "normalize": False, "relu_attributions": False}
    maps = explainer.attribute(**args)
    assert maps.shape == args["inputs"].shape
    assert_examples_stand_alone(explainer, args, (maps,))


@pytest.mark.parametrize("method", [RISE, PNRISE])
@pytest.mark.parametrize("name", [n for n in CONFIGS if "_nt" not in n])
def test_traced_and_parallel_models(method, name):
    """Wrappers do not change maps, as in Captum's test_jit and test_data_parallel."""
    _, model, args, _, _, _ = parse_test_config(CONFIGS[name])
    model, args = copy.deepcopy(model).eval(), dict(args)
    expected = method(model).attribute(**args)
    wrapped = method(torch.nn.DataParallel(model)).attribute(**args)
    torch.testing.assert_close(wrapped, expected, atol=1e-5, rtol=1e-4)
    if "additional_forward_args" in args:
        return
    traced = torch.jit.trace(model, args["inputs"])
    torch.testing.assert_close(
        method(traced).attribute(**args), expected, atol=1e-5, rtol=1e-4
    )
