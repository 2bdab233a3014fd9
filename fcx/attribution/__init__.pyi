from .batch import Batch
from .fills import FILLS
from .inhibition import inhibition_index
from .perturbation import region_effects
from .region_shapley import shapley_interactions, shapley_values
from .registry import METHODS, Method, method
from .runner import attribute
from .storage import open_results
