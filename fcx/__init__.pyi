from . import (
    attribution,
    core,
    datasets,
    explorer,
    faithfulness,
    figures,
    geometry,
    masks,
    networks,
    reporting,
    statistics,
    studies,
)
from .attribution.runner import attribute
from .attribution.storage import open_results
from .datasets.preparation import open_faces, prepare
from .explorer.exploring import explore
from .geometry.regions import region_maps
from .masks.wear import wear_mask
from .networks.checkpoints import load_model, save_model
from .networks.facechannel import FaceChannel
from .networks.inference import predict
from .networks.inputs import as_network
from .networks.training import train
from .reporting import report
from .statistics.agreement import evaluate
from .statistics.comparison import compare
from .statistics.region_mass import region_statistics
from .studies.trainings import experiment

__version__: str
