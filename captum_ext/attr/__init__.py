"""Attribution methods with Captum's interface, one file per paper."""

from captum_ext.attr.borex import BOREx, Refinement
from captum_ext.attr.cameras import LayerCAMERAS
from captum_ext.attr.grad_cam_plus_plus import LayerGradCamPlusPlus
from captum_ext.attr.iterative_mask import IterativeMask
from captum_ext.attr.map_layer import MapLayer, last_map_layer
from captum_ext.attr.masking_model import MaskingModel
from captum_ext.attr.mc_rise import MCRISE
from captum_ext.attr.pn_rise import PNRISE
from captum_ext.attr.replicas import Replicas
from captum_ext.attr.reshape import maps_of_channels_last, maps_of_tokens
from captum_ext.attr.rise import RISE
from captum_ext.attr.similarity import EmbeddingSimilarity
from captum_ext.attr.window_search import WindowVariant

__all__ = [
    "BOREx",
    "EmbeddingSimilarity",
    "IterativeMask",
    "LayerCAMERAS",
    "LayerGradCamPlusPlus",
    "MCRISE",
    "MapLayer",
    "MaskingModel",
    "PNRISE",
    "RISE",
    "Refinement",
    "Replicas",
    "WindowVariant",
    "last_map_layer",
    "maps_of_channels_last",
    "maps_of_tokens",
]
