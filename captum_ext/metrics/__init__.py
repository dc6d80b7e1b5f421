"""Metrics of attribution maps, one metric per file.

A metric takes the forward function, the inputs and their maps, from any attribution
method, and returns one number per example.
"""

from captum_ext.metrics.adversarial_sanity import adversarial_sanity
from captum_ext.metrics.baselines import named_baseline
from captum_ext.metrics.boxes import center_box, max_box
from captum_ext.metrics.confidence_change import average_drop, increase_in_confidence
from captum_ext.metrics.deletion import deletion
from captum_ext.metrics.efficient_mprt import efficient_mprt
from captum_ext.metrics.enhanced_pgd import EnhancedPGD, enhanced_pgd
from captum_ext.metrics.f_measure import f_measure
from captum_ext.metrics.insertion import insertion
from captum_ext.metrics.localization_error import localization_error
from captum_ext.metrics.map_density import negative_map_density, positive_map_density
from captum_ext.metrics.mu_fidelity import mu_fidelity
from captum_ext.metrics.parameter_randomization import parameter_randomization
from captum_ext.metrics.pointing_game import is_difficult, pointing_game
from captum_ext.metrics.relevance import relevance_mass, relevance_rank
from captum_ext.metrics.road import road_least_relevant, road_most_relevant
from captum_ext.metrics.saliency_metric import saliency_metric
from captum_ext.metrics.sparseness import sparseness

__all__ = [
    "EnhancedPGD",
    "adversarial_sanity",
    "average_drop",
    "center_box",
    "deletion",
    "efficient_mprt",
    "enhanced_pgd",
    "f_measure",
    "increase_in_confidence",
    "insertion",
    "is_difficult",
    "localization_error",
    "max_box",
    "mu_fidelity",
    "named_baseline",
    "negative_map_density",
    "parameter_randomization",
    "pointing_game",
    "positive_map_density",
    "relevance_mass",
    "relevance_rank",
    "road_least_relevant",
    "road_most_relevant",
    "saliency_metric",
    "sparseness",
]
