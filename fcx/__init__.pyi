from . import (
    attribution as attribution,
    core as core,
    datasets as datasets,
    explorer as explorer,
    faithfulness as faithfulness,
    figures as figures,
    geometry as geometry,
    masks as masks,
    networks as networks,
    reporting as reporting,
    statistics as statistics,
    studies as studies,
)
from .attribution.runner import attribute as attribute
from .attribution.storage import open_results as open_results
from .datasets.preparation import open_faces as open_faces, prepare as prepare
from .explorer.exploring import explore as explore
from .geometry.regions import region_maps as region_maps
from .masks.wear import wear_mask as wear_mask
from .networks.checkpoints import load_model as load_model, save_model as save_model
from .networks.facechannel import FaceChannel as FaceChannel
from .networks.inference import predict as predict
from .networks.inputs import as_network as as_network
from .networks.training import train as train
from .reporting import report as report
from .statistics.agreement import evaluate as evaluate
from .statistics.comparison import compare as compare
from .statistics.region_mass import region_statistics as region_statistics
from .studies.trainings import experiment as experiment

__version__: str
