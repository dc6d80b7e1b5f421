"""Suggestions of names that are similar to an unknown one, for error messages."""

from collections.abc import Iterable
from difflib import SequenceMatcher

__all__ = ["did_you_mean"]

# Similarities from 0 to 1: the least, and how much less than the best is as good.
_LEAST, _MARGIN = 0.6, 0.1


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """Question that names the most similar names, to be put before the period.

    Args:
        name (object): Unknown name.
        names (iterable of str): Known names.

    Returns:
        *str*: `` (did you mean 'NAME'?)`` with at most three names, without regard to
        case; empty if none is similar.

    Examples::

        >>> did_you_mean("pn-ris", ["pn-rise", "borex"])
        " (did you mean 'pn-rise'?)"
        >>> did_you_mean("gradcam", ["pn-rise"])
        ''
    """
    matcher = SequenceMatcher(None, "", str(name).lower())
    similarities = {}
    for known in names:
        matcher.set_seq1(known.lower())
        similarities[known] = matcher.ratio()
    best = max(similarities.values(), default=0.0)
    if best < _LEAST:
        return ""
    ranked = sorted(similarities, key=lambda known: -similarities[known])
    close = [known for known in ranked[:3] if similarities[known] > best - _MARGIN]
    return f" (did you mean {' or '.join(map(repr, close))}?)"
