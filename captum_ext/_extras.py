"""Optional packages: imports that name the extra to install when one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["MissingExtraError", "extra"]


class MissingExtraError(ModuleNotFoundError):
    """A package of an extra is not installed."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Name the extra if an import within the block fails.

    Args:
        name (str): Extra of this package that installs what the block imports.

    Raises:
        MissingExtraError: If a module is missing.

    Examples::

        >>> with extra("evaluation"):
        ...     import pandas
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed; in the checkout of captum_ext, run: pip "
            f"install '.[{name}]'",
            name=error.name,
        ) from error
