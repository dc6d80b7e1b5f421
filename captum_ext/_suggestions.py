"""Suggestions of names that are similar to an unknown one, for error messages."""

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


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
    folded = {known.lower(): known for known in names}
    close = difflib.get_close_matches(str(name).lower(), folded, 3)
    if not close:
        return ""
    return f" (did you mean {' or '.join(repr(folded[key]) for key in close)}?)"
