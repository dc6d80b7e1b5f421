"""How we explain: attributions with Captum's interface, one paper a file."""

from captum_ext.attr.mc_rise import MCRISE, PNRISE
from captum_ext.attr.rise import RISE
from captum_ext.attr.similarity import EmbeddingSimilarity

__all__ = ["EmbeddingSimilarity", "MCRISE", "PNRISE", "RISE"]
