"""Attribution methods by their names on the command line."""

from captum_ext.methods.named_methods import METHODS, Method, occlusion_windows

__all__ = ["METHODS", "Method", "occlusion_windows"]
