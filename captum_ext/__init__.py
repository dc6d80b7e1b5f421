"""Explanations of vision models as drop-in Captum attributions."""

__version__ = "0.1.0"

__all__ = ["__version__"]
