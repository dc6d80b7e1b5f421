"""One generated call, and whether it did what a call may do."""

import random
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor, nn

from .calls import CALLS, Call
from .values import LATE_TARGET, WRONG_ANSWERS, Case

# Arguments whose wrong value only a pass, or a function of the caller, shows.
SHOWN_LATE = ("black_box", "dataset", "network", "distance", "explanation_func")


@dataclass
class Fault:
    """A call that ended in neither a right result nor one sentence."""

    number: int
    name: str
    arguments: str
    reason: str

    def __str__(self) -> str:
        return f"call {self.number}: {self.name}({self.arguments}): {self.reason}"


def check_call(seed: int, number: int) -> Fault | None:
    """Generate a call, run it, and say what is wrong with its end, if anything.

    Args:
        seed (int): Seed of the run.
        number (int): Number of the call in the run.

    Returns:
        *Fault* or *None*: None if the call ended as it should.
    """
    rng = random.Random(seed * 1_000_003 + number)
    names = list(CALLS)
    (name,) = rng.choices(names, [CALLS[each].weight for each in names])
    case = Case.draw(rng)
    arguments, good, late = drawn(CALLS[name], case)
    wrong = [each for each in arguments if arguments[each] is not good[each]]
    before = snapshot(case, arguments)
    reason = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = CALLS[name].run(arguments)
    except (ValueError, TypeError) as error:
        reason = wrong_message(error, CALLS[name], wrong)
        if _is_unbatched("inputs", arguments.get("inputs")) and "not named" in reason:
            # Three sequences for all that do not know what the model takes.
            reason = ""
        if "not named" in reason and message_of(CALLS[name], good) == str(error):
            # Good values may not fit each other.
            reason = ""
        if not reason and not late and passes(case, arguments):
            reason = f"{passes(case, arguments)} passes before {error}"
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        try:
            if wrong and not _is_unbatched("inputs", arguments.get("inputs")):
                reason = f"accepted: {', '.join(wrong)}"
            elif not CALLS[name].right(case, arguments, result):
                reason = "the result is not right"
        except Exception as error:
            reason = f"the result is not right: {type(error).__name__}: {error}"
    reason = reason or changed(before, case, arguments)
    return Fault(number, name, shown(arguments, wrong), reason) if reason else None


def message_of(call: Call, arguments: Mapping[str, Any]) -> str:
    """The message of the error of a call; "" if there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call.run(arguments)
        except (ValueError, TypeError) as error:
            return str(error)
    return ""


def drawn(call: Call, case: Case) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Arguments of a call, the same without wrong ones, and if a pass shows these."""
    rng = case.rng
    parameters = call.parameters()
    chosen = {
        name: call.kinds[name]
        for name in parameters
        if name in call.given or rng.random() < 0.2
    }
    good = {name: rng.choice(values)(case) for name, (values, _) in chosen.items()}
    arguments, late = dict(good), call.late
    if rng.random() < 0.7:
        candidates = [name for name, (_, bad) in chosen.items() if bad]
        # Most calls have one wrong argument, some two.
        count = min(len(candidates), 1 if rng.random() < 0.85 else 2)
        wrong = rng.sample(candidates, count)
        for name in wrong:
            bad = list(chosen[name][1])
            if name == "target" and rng.random() < 0.3:
                bad, late = LATE_TARGET, True
            if name == "forward_func" and rng.random() < 0.4:
                bad, late = WRONG_ANSWERS, True
            late = late or name in SHOWN_LATE
            # An image without the axis of examples may be three sequences.
            arguments[name] = rng.choice(bad)(case)
            late = late or _is_unbatched(name, arguments[name])
    return arguments, good, late


def _is_unbatched(name: str, value: Any) -> bool:
    return name == "inputs" and isinstance(value, Tensor) and value.dim() == 3


def wrong_message(error: Exception, call: Call, wrong: list[str]) -> str:
    """What is wrong with the message of an error; "" if nothing is."""
    text = str(error)
    if not text.endswith(".") or "\n" in text or re.search(r"[a-z]\. [A-Z]", text):
        return f"no sentence: {type(error).__name__}: {text}"
    if len(text) > 500:
        return f"too long: {text}"
    known = {*call.parameters()}
    words = set(re.findall(r"\w+", text.split(", got ")[0]))
    if not known & words:
        return f"no argument is named: {type(error).__name__}: {text}"
    if len(wrong) == 1 and wrong[0] not in re.findall(r"\w+", text):
        return f"{wrong[0]} is not named: {type(error).__name__}: {text}"
    return ""


def modules(case: Case, arguments: Mapping[str, Any]) -> Iterator[nn.Module]:
    for value in (case.model, *arguments.values()):
        if isinstance(value, nn.Module):
            yield value


def passes(case: Case, arguments: Mapping[str, Any]) -> int:
    return sum(getattr(module, "passes", 0) for module in {*modules(case, arguments)})


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, (list, tuple)):
        return [tensor for each in value for tensor in tensors(each)]
    usable = isinstance(value, Tensor) and not value.is_meta and not value.is_nested
    return [value] if usable and value.layout == torch.strided else []


def snapshot(case: Case, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a call must leave as it was."""
    own = {k: v for k, v in arguments.items() if not isinstance(v, nn.Module)}
    nets = [m for m in modules(case, own) if m is case.model]
    return {
        "inputs": [t.detach().clone() for t in tensors(list(own.values()))],
        "model": [{k: v.clone() for k, v in net.state_dict().items()} for net in nets],
        "modes": [m.training for net in nets for m in net.modules()],
        "gradients": [p.requires_grad for net in nets for p in net.parameters()],
        "hooks": [
            len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
            for net in nets
            for m in net.modules()
        ],
        "torch generator": torch.get_rng_state(),
        "numpy generator": np.random.get_state()[1],  # type: ignore[index]
        "python generator": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "rcParams": dict(matplotlib.rcParams),
    }


def changed(before: dict[str, Any], case: Case, arguments: Mapping[str, Any]) -> str:
    """Name of what a call changed; "" if nothing."""
    after = snapshot(case, arguments)
    for name, value in before.items():
        if not same(value, after[name]):
            return f"changed: {name}"
    return ""


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one.nan_to_num(1234), other.nan_to_num(1234))
    if isinstance(one, np.ndarray):
        return bool((one == other).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def shown(arguments: Mapping[str, Any], wrong: list[str]) -> str:
    """Arguments in a report, wrong ones in capitals."""

    def value_of(value: Any) -> str:
        if isinstance(value, Tensor):
            kind = str(value.dtype).removeprefix("torch.")
            layout = "" if value.layout == torch.strided else f" {value.layout}"
            shape = "nested" if value.is_nested else tuple(value.shape)
            return f"<{kind}{layout} {shape} on {value.device}>"
        if isinstance(value, (list, tuple)):
            return f"{type(value).__name__}({', '.join(map(value_of, value))})"
        text = (
            repr(value) if not isinstance(value, int) or abs(value) < 2**70 else "1e400"
        )
        return " ".join(text.split())[:60]

    return ", ".join(
        f"{name.upper() if name in wrong else name}={value_of(value)}"
        for name, value in arguments.items()
    )
