"""Class names: look-up by name or index, and default names."""

from collections.abc import Sequence

from captum_ext._suggestions import did_you_mean

__all__ = ["default_class_names", "find_class", "similar"]


def find_class(class_names: Sequence[str], query: int | str) -> int:
    r"""Find a class by its index, its name or a part of its name.

    Args:
        class_names (Sequence of str): Name of each class.
        query (int or str): Index, as a number or as text; name; or part of exactly one
            name. Case matters only where two names differ in nothing else.

    Returns:
        int: Index into ``class_names``.

    Raises:
        ValueError: If the query matches no class, or more than one.

    Examples::

        >>> from captum_ext.zoo import find_class, SIGN_CLASSES
        >>> find_class(SIGN_CLASSES, "blue circle, arrow")
        3
        >>> find_class(SIGN_CLASSES, "octagon")
        11
    """
    text = str(query)
    folded = [name.lower() for name in class_names]
    for hits in (
        [i for i, name in enumerate(class_names) if name == text],
        [i for i, name in enumerate(folded) if name == text.lower()],
        [int(text)] if text.isdecimal() and int(text) < len(class_names) else [],
        [i for i, name in enumerate(folded) if text.lower() in name],
    ):
        if len(hits) == 1:
            return hits[0]
        if hits:
            several = ", ".join(f"{i} {class_names[i]!r}" for i in hits[:5])
            raise ValueError(
                f"class must match a single name, got {text!r}, which matches "
                f"{len(hits)} classes such as {several}."
            )
    raise ValueError(
        f"class must be a name or an index from 0 to {len(class_names) - 1}, got "
        f"{text!r}{similar(text, class_names)}."
    )


def default_class_names(n_classes: int) -> tuple[str, ...]:
    """Default class names: ImageNet's for 1000 classes, else numbers.

    Args:
        n_classes (int): Number of classes.

    Returns:
        *tuple[str, ...]*: One name per class.

    Examples::

        >>> default_class_names(2)
        ('class 0', 'class 1')
        >>> default_class_names(1000)[0]
        'tench'
    """
    from torchvision.models import ResNet18_Weights

    imagenet = tuple(ResNet18_Weights.DEFAULT.meta["categories"])
    if n_classes == len(imagenet):
        return imagenet
    return tuple(f"class {i}" for i in range(n_classes))


def similar(text: str, names: Sequence[str]) -> str:
    """A hint at similar names, or at some of the names if none is similar.

    Args:
        text (str): Name that is unknown.
        names (Sequence of str): Known names.

    Returns:
        *str*: End of an error message, without its period.
    """
    unlike = f", which is not among {', '.join(map(repr, names[:3]))}, ..."
    return did_you_mean(text, names) or unlike
