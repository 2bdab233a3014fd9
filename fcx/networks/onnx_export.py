"""Networks as ONNX files, for runtimes without Python: any number of faces at once, pixels in [0, 1] in.

Needs the extra `onnx`. A file is put in place only after onnxruntime answered with it what the network answers.
"""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

from fcx.core.arguments import FilePath, Switch, checked
from fcx.core.errors import InputError
from fcx.core.files import replacing
from fcx.networks.checkpoints import read_metadata
from fcx.networks.facechannel import FaceChannel
from fcx.networks.inference import private_copy
from fcx.networks.inputs import checked_answer, words_of
from fcx.networks.shipped_networks import shipped
from fcx.networks.tensor_files import weights_hash

SUFFIX = ".onnx"
OPSET = 18  # which runtimes know since 2023
BATCHES = (1, 3, 16)
TOLERANCE = 1e-5  # of the largest answer where that is above 1


class Unchecked(nn.Module):
    """A FaceChannel that does not look at the values of its pixels, which no graph of operations can."""

    def __init__(self, model: FaceChannel):
        super().__init__()
        self.model = model

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Map (sample, 1, y, x) in [0, 1] to (sample, target)."""
        return self.model.activation(self.model.tail(self.model.features(faces)))


def library(name: str) -> ModuleType:
    """Return a library of the extra `onnx`.

    Raises: InputError where it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"ONNX files need {name}, which is not installed: pip install 'fcx-faces[onnx]', or in a "
                         f"checkout pip install -c constraints.txt -e '.[onnx]' ({error})") from error  # fmt: skip


@checked
def write_onnx(model: nn.Module, path: FilePath, *, overwrite: Switch = False) -> Path:
    """Write a network as ONNX, whole or not at all: `faces (sample, channel, y, x)` in, one row of outputs a face out.

    Its metadata hold, each as JSON, `network` (size, channels, outputs and their kind), `crop`, `licence`, `sha256` of
    the weights, and the data, scores and notice of a checkpoint. Its weights are float32.

    Raises: InputError where the file is there already, the name does not end in .onnx, torch cannot export the
    network, or onnxruntime answers something else with the file.

    >>> write_onnx(load_model("plain_scratch"), "plain.onnx")  # doctest: +SKIP
    PosixPath('plain.onnx')
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise InputError(f"{path} is no name for an ONNX file: it must end in {SUFFIX}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already: choose another name, or pass overwrite (--overwrite)")
    onnx = library("onnx")
    words, metadata = words_of(model), _metadata(model)
    if "size" not in words:
        raise InputError(f"a {type(model).__name__} does not say what it reads and answers: give fcx.as_network(...)")
    model = private_copy(model, path.stem, dtype=torch.float32)
    graph = _exported(Unchecked(model) if isinstance(model, FaceChannel) else model, words)
    # What normalises pixels is part of the graph.
    metadata = {"network": {**words, "mean": 0, "std": 1}, **metadata}
    onnx.helper.set_model_props(graph, {name: json.dumps(value) for name, value in metadata.items()})
    onnx.checker.check_model(graph)
    _check_written(model, graph.SerializeToString(), words)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(graph.SerializeToString(deterministic=True))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error}") from error
    return path


def _exported(model: nn.Module, words: Mapping):
    """Return the graph of a network in evaluation mode, without the paths of this machine.

    Raises: InputError where torch cannot export it.
    """
    library("onnxscript")  # which torch needs
    example = torch.zeros(2, words["channels"], words["size"], words["size"])
    log = logging.getLogger("torch.onnx")
    level = log.level
    try:
        log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of itself
            graph = torch.onnx.export(
                model, (example,), dynamo=True, verbose=False, opset_version=OPSET, dynamic_shapes=({0: "sample"},),
                input_names=["faces"], output_names=[f"{words['kind']}s"], external_data=False,
            ).model_proto  # fmt: skip
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)  # what follows lists graphs
        raise InputError(f"torch cannot export a {type(model).__name__} as ONNX: {reason}") from error
    finally:
        log.setLevel(level)
    for part in (*graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.value_info, graph.graph):
        del part.metadata_props[:]
    return graph


def _metadata(model: nn.Module) -> dict:
    known, sha256 = getattr(model, "metadata", {}), weights_hash(model.state_dict())
    ours = any(read_metadata(path)["sha256"] == sha256 for path in shipped().values())
    licence = known.get("notice", {}).get("licence", "MIT License, the fcx authors" if ours else "not known")
    made = {name: known[name] for name in ("name", "data", "scores", "notice") if name in known}
    return {"crop": known.get("crop", "unknown"), "licence": licence, "sha256": sha256, **made}


def _check_written(model: nn.Module, graph: bytes, words: Mapping) -> None:
    """Refuse a graph that does not answer what a network answers, for several numbers of faces.

    Raises: InputError with the largest difference.
    """
    session = onnx_session(graph)
    rng = np.random.default_rng(0)
    for count in BATCHES:
        faces = rng.random((count, words["channels"], words["size"], words["size"]), np.float32)
        with torch.inference_mode():
            answers = checked_answer(model, model(torch.from_numpy(faces)), count).numpy()
        (given,) = session.run(None, {"faces": faces})
        worst = largest_difference(given, answers)
        if not worst <= TOLERANCE * max(1, np.abs(answers).max()):
            raise InputError(f"onnxruntime answers something else than torch to {count} faces, by up to {worst:.2g}; "
                             f"allowed: {TOLERANCE:g} of the largest answer, or of 1")  # fmt: skip


def largest_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest absolute difference of two answers, infinity where their shapes differ."""
    return np.abs(one - other).max() if one.shape == other.shape else np.inf


def onnx_session(graph: bytes, threads: int = 1):
    """Return an onnxruntime session of an ONNX file's bytes, on the processor."""
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4  # what is wrong is raised, too
    return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
