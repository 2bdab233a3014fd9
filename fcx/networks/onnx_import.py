"""ONNX files as torch modules, so that they can be explained: converted by onnx2pytorch, compared with onnxruntime.

Needs the extra `onnx`. onnxruntime's own rewriting of graphs (its basic level, which keeps to the operators of ONNX)
comes first: it makes one weight of what exporters share between layers, and folds batch norm and constants.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from fcx.core.arguments import FilePath, checked
from fcx.core.errors import CheckpointError, InputError
from fcx.networks.inputs import Network, as_network
from fcx.networks.onnx_export import largest_difference, library, onnx_session

TOLERANCE = 1e-4  # of the largest answer
FREE = 64  # pixels, where a file says no size


@checked
def onnx_module(path: FilePath) -> nn.Module:
    """Return the network of an ONNX file as a torch module in evaluation mode, without what it says of itself.

    Raises: CheckpointError for a file that is missing, damaged or not ONNX; InputError for one that does not read one
    stack of pictures (sample, channel, y, x) and answer (sample, output), that cannot be converted, or whose converted
    network answers something else than onnxruntime.

    >>> onnx_module("resnet.onnx")  # doctest: +SKIP
    ConvertModel(...)
    """
    path = Path(path)
    graph = _with_free_batch(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names, of arrays that cannot be written, of what torch will change
        try:
            module = library("onnx2pytorch").ConvertModel(_simplified(path, graph)).eval().requires_grad_(False)
        except (NotImplementedError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path} cannot be converted by onnx2pytorch: {error!r}") from error
        _check_converted(path, module, graph)
    return module


def read_onnx(path: Path) -> Network:
    """Return the network of an ONNX file that declares its input and outputs, with its metadata.

    Raises: as `onnx_module`; InputError for a file that declares nothing, or what cannot be.
    """
    words = read_words(path)
    if "network" not in words:
        raise InputError(f"{path} does not say what it reads and answers, as fcx onnx writes it: declare it in Python, "
                         f"fcx.as_network(fcx.networks.onnx_import.onnx_module({str(path)!r}), size=..., channels=..., "
                         "mean=..., std=..., outputs=[...], kind=...)")  # fmt: skip
    module = onnx_module(path)
    try:
        network = as_network(module, **words["network"])
    except (TypeError, InputError) as error:  # TypeError: other words, or no dict of them
        raise CheckpointError(f"{path} does not describe a network: {error}") from error
    network.metadata = words
    return network.eval()


def read_words(path: Path) -> dict:
    """Return the metadata of an ONNX file that are JSON, as `fcx onnx` writes them.

    Raises: CheckpointError for a file that is missing, damaged or not ONNX.
    """
    words = {}
    for entry in _loaded(path).metadata_props:
        try:
            words[entry.key] = json.loads(entry.value)
        except (json.JSONDecodeError, RecursionError):  # another program's
            continue
    return words


def _loaded(path: Path):
    onnx = library("onnx")
    try:
        graph = onnx.load(path)
        onnx.checker.check_model(graph)
        return graph
    except Exception as error:  # of protobuf, of onnx and of the system
        raise CheckpointError(f"{path} is not an ONNX file, or is damaged: {error}") from error


def _with_free_batch(path: Path):
    """Return the graph of a file, made for any number of faces.

    Raises: InputError where it does not read one stack of pictures and answer one array.
    """
    graph = _loaded(path)
    inputs, outputs = _inputs(graph), graph.graph.output
    shapes = [tuple(dim.dim_value or dim.dim_param for dim in each.type.tensor_type.shape.dim) for each in inputs]
    if len(inputs) != 1 or len(outputs) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in (1, 3):
        raise InputError(f"{path} reads {' and '.join(map(str, shapes))} and answers {len(outputs)} arrays; allowed: "
                         "pictures (sample, channel, y, x) of 1 or 3 channels, and one array")  # fmt: skip
    for each in (inputs[0], outputs[0]):
        if each.type.tensor_type.shape.dim:
            each.type.tensor_type.shape.dim[0].dim_param = "sample"
    del graph.graph.value_info[:]  # shapes for one number of faces
    return graph


def _inputs(graph) -> list:
    weights = {tensor.name for tensor in graph.graph.initializer}
    return [each for each in graph.graph.input if each.name not in weights]


def _simplified(path: Path, graph):
    """Return a graph as onnxruntime rewrites it, and as onnx2pytorch converts it for either precision.

    Raises: CheckpointError where onnxruntime cannot read it.
    """
    runtime, onnx = library("onnxruntime"), library("onnx")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath, options.log_severity_level = str(Path(folder) / "simple.onnx"), 4
        try:
            runtime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a class of its own for each reason
            raise CheckpointError(f"{path} cannot be read by onnxruntime: {error}") from error
        simple = onnx.load(options.optimized_model_filepath)
    for node in simple.graph.node:
        kept = [each for each in node.attribute if each.name not in ("training_mode", "stash_type")]
        del node.attribute[:]
        node.attribute.extend(kept)
        if node.op_type == "LayerNormalization":  # else in float32, also where all else is in double precision
            node.attribute.append(onnx.helper.make_attribute("stash_type", onnx.TensorProto.DOUBLE))
    return simple


def _check_converted(path: Path, module: nn.Module, graph) -> None:
    """Refuse a module that does not answer what onnxruntime answers.

    Raises: InputError with the largest difference.
    """
    [given] = _inputs(graph)
    _, channels, *sizes = (dim.dim_value or FREE for dim in given.type.tensor_type.shape.dim)
    faces = np.random.default_rng(0).random((3, channels, *sizes), np.float32)
    try:
        (wanted,) = onnx_session(graph.SerializeToString()).run(None, {given.name: faces})
        with torch.inference_mode():
            answers = module(torch.from_numpy(faces)).numpy()
    except Exception as error:
        raise InputError(f"{path} does not answer to {len(faces)} faces at once: export it for any number of them "
                         f"({error})") from error  # fmt: skip
    worst = largest_difference(wanted, answers)
    if not worst <= TOLERANCE * np.abs(wanted).max():
        raise InputError(f"what onnx2pytorch made of {path} answers something else than onnxruntime, by up to "
                         f"{worst:.2g}")  # fmt: skip
