from .batch import Batch as Batch
from .fills import FILLS as FILLS
from .inhibition import inhibition_index as inhibition_index
from .perturbation import region_effects as region_effects
from .region_shapley import shapley_interactions as shapley_interactions, shapley_values as shapley_values
from .registry import METHODS as METHODS, Method as Method, method as method
from .runner import attribute as attribute
from .storage import open_results as open_results
