"""Answers to an unknown name, for error messages: similar names, or all of them."""

from collections.abc import Collection, Iterable
from difflib import SequenceMatcher

__all__ = ["did_you_mean", "known_name"]

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


def known_name(
    name: object,
    names: Collection[str],
    others: str = "",
    unlisted: Collection[str] = (),
) -> str:
    """What a name must be, and what it is, to be put after ``must be``.

    A long list would hide the name that was meant, so that it is named alone.

    Args:
        name (object): Unknown name.
        names (collection of str): Known names.
        others (str, optional): What else the argument may be. Default: ""
        unlisted (collection of str, optional): Further names, which may be meant but
            are too many to be listed. Default: ()

    Returns:
        *str*: The most similar names; all names if none is similar.

    Examples::

        >>> known_name("pn-ris", ["pn-rise", "borex"], " or FILE.py:CLASS")
        "a known name (did you mean 'pn-rise'?), got 'pn-ris'"
        >>> known_name("magic", ["pn-rise", "borex"], " or FILE.py:CLASS")
        "among pn-rise, borex or FILE.py:CLASS, got 'magic'"
    """
    hint = did_you_mean(name, [*names, *unlisted])
    known = f"a known name{hint}" if hint else f"among {', '.join(names)}{others}"
    return f"{known}, got {str(name)!r}"
