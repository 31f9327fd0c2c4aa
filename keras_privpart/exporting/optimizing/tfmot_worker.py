"""Optimises a described device half with tensorflow-model-optimization. Runs in a process of its own: `python -m ... FOLDER`.

tensorflow-model-optimization knows `tf_keras` only, and importing it switches its whole process to `tf_keras`: nothing else of this
package may import this module. It reads `request.json` and `arrays.npz` from FOLDER, prints one JSON object per line for progress, and
writes `optimized.npz`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

REQUEST, ARRAYS, OPTIMIZED = "request.json", "arrays.npz", "optimized.npz"
_TOLERANCE = 1e-5
# Adam's learning rate, which falls to 0. What a quantised half starts from is nearly right already.
_RATES = {"prune": 1e-3, "cluster": 1e-3, "qat": 1e-4}
_COMPARED = 256
_REPORTS = 50


def main(folder: Path) -> None:
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    with np.load(folder / ARRAYS, allow_pickle=False) as stored:
        arrays = dict(stored)
    tf_keras.utils.set_random_seed(request["seed"])
    model, layers = _build(request)
    names = [[weight.name.split("/")[-1] for weight in layer.weights] for layer in layers]  # wrappers will take some away
    for i, layer in enumerate(layers):
        layer.set_weights([arrays[f"weight_{i}_{j}"] for j in range(request["layers"][i]["weights"])])
    inputs = [arrays[f"input_{i}"] for i in range(len(request["inputs"]))]
    targets = [arrays[f"target_{i}"] for i in range(len(request["outputs"]))]
    _check(model, inputs, targets)
    tuned = {"prune": _pruned, "cluster": _clustered, "qat": _quantized}[request["method"]](model, request)
    _fine_tune(tuned, request, inputs, targets)
    stripped = {"prune": tfmot.sparsity.keras.strip_pruning, "cluster": tfmot.clustering.keras.strip_clustering}
    final = stripped.get(request["method"], lambda quantized: quantized)(tuned)
    np.savez(folder / OPTIMIZED, **_weights(final, names))  # type: ignore[arg-type]  # to mypy any keyword may be allow_pickle


def _build(request: dict[str, Any]) -> tuple[tf_keras.Model, list[tf_keras.layers.Layer]]:
    """The half in `tf_keras`. BatchNormalization keeps its statistics, as in use; under qat its scale and offset as well."""
    quantized = request["method"] == "qat"
    layers = [getattr(tf_keras.layers, entry["kind"])(name=entry["name"], **entry["arguments"]) for entry in request["layers"]]
    value = {}
    for i, entry in enumerate(request["inputs"]):
        value[entry["tensor"]] = tf_keras.Input(entry["shape"], dtype=entry["dtype"], name=f"input_{i}")
    heads = list(value.values())
    for call in request["calls"]:
        layer = layers[call["layer"]]
        fed = [value[tensor] for tensor in call["inputs"]]
        fed = fed if request["layers"][call["layer"]]["kind"] in _MERGES else fed[0]
        normalizes = isinstance(layer, tf_keras.layers.BatchNormalization)
        # tfmot records ranges only where it is told `training`, so that its normalisation is frozen as a layer, not by the call.
        layer.trainable = not (normalizes and quantized)
        value[call["output"]] = layer(fed, training=False) if normalizes and not quantized else layer(fed)
    return tf_keras.Model(heads, [value[tensor] for tensor in request["outputs"]]), layers


_MERGES = ("Add", "Average", "Maximum", "Multiply", "Concatenate")


def _check(model: tf_keras.Model, inputs: list[np.ndarray], targets: list[np.ndarray]) -> None:
    """The rebuilt half must be the half."""
    made = model([tf.constant(x[:_COMPARED]) for x in inputs], training=False)
    for got, want in zip(tf.nest.flatten(made), targets, strict=True):
        want = want[:_COMPARED]
        difference = float(np.max(np.abs(got.numpy() - want)))
        if not difference <= _TOLERANCE * max(1.0, float(np.max(np.abs(want)))):
            sys.exit(f"The half rebuilt in tf_keras differs from the original by {difference:.3g}; expected at most {_TOLERANCE:g}.")


def _pruned(model: tf_keras.Model, request: dict[str, Any]) -> tf_keras.Model:
    """Sparsity grows over the first half of the steps; the other half mends what is left."""
    every = max(1, request["steps"] // 40)
    end = every * max(1, request["steps"] // 2 // every)
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, request["amount"], begin_step=0, end_step=end, frequency=every)

    def wrap(layer: tf_keras.layers.Layer) -> Any:
        return tfmot.sparsity.keras.prune_low_magnitude(layer, pruning_schedule=schedule) if _kernel(layer) is not None else layer

    return _wrapped(model, wrap)


def _clustered(model: tf_keras.Model, request: dict[str, Any]) -> tf_keras.Model:
    count, start = request["amount"], tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS

    def wrap(layer: tf_keras.layers.Layer) -> Any:
        kernel = _kernel(layer)
        if kernel is None or len(np.unique(kernel.numpy())) <= count:
            return layer
        return tfmot.clustering.keras.cluster_weights(layer, number_of_clusters=count, cluster_centroids_init=start)

    return _wrapped(model, wrap)


def _wrapped(model: tf_keras.Model, wrap: Any) -> tf_keras.Model:
    """The same graph, on the same layers in their wrappers."""
    return tf_keras.models.clone_model(model, clone_function=wrap)


def _kernel(layer: tf_keras.layers.Layer) -> Any:
    """What is pruned and clustered: kernels, of separable convolutions the pointwise one, of depthwise ones none."""
    return getattr(layer, "pointwise_kernel", None) if hasattr(layer, "depthwise_kernel") else getattr(layer, "kernel", None)


class _OutputAlone(tfmot.quantization.keras.QuantizeConfig):
    """What a layer gives is rounded, nothing inside it."""

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        return []

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        pass

    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        quantizers = tfmot.quantization.keras.quantizers
        return [quantizers.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)]

    def get_config(self) -> dict[str, Any]:
        return {}


def _quantized(model: tf_keras.Model, request: dict[str, Any]) -> tf_keras.Model:
    """Every layer as LiteRT's int8 computes it. A normalisation that it cannot fold into the layer before is a step of its own there."""
    quantize, unfolded = tfmot.quantization.keras, _unfolded(request)

    def annotate(layer: tf_keras.layers.Layer) -> Any:
        if isinstance(layer, tf_keras.layers.InputLayer):
            return layer
        return quantize.quantize_annotate_layer(layer, _OutputAlone() if layer.name in unfolded else None)

    with quantize.quantize_scope({"_OutputAlone": _OutputAlone}):
        return quantize.quantize_apply(_wrapped(model, annotate))


def _unfolded(request: dict[str, Any]) -> set[str]:
    """Names of the normalisations that do not directly follow a linear convolution or dense layer which feeds nothing else."""
    layers, calls = request["layers"], request["calls"]
    maker = {call["output"]: layers[call["layer"]] for call in calls}
    uses = [tensor for call in calls for tensor in call["inputs"]] + request["outputs"]
    found = set()
    for call in calls:
        layer, source = layers[call["layer"]], call["inputs"][0]
        before = maker.get(source, {"kind": "", "arguments": {}})
        folds = before["kind"] in ("Conv2D", "DepthwiseConv2D", "Dense") and before["arguments"]["activation"] == "linear"
        if layer["kind"] == "BatchNormalization" and not (folds and uses.count(source) == 1):
            found.add(layer["name"])
    return found


def _fine_tune(model: tf_keras.Model, request: dict[str, Any], inputs: list[np.ndarray], targets: list[np.ndarray]) -> None:
    """Towards the half's own boundary: mean squared error, over each tensor's mean square, so that all scales are treated alike."""
    steps, batch = request["steps"], min(request["batch"], len(inputs[0]))
    rate = tf_keras.optimizers.schedules.PolynomialDecay(_RATES[request["method"]], steps, end_learning_rate=0.0)
    model.compile(tf_keras.optimizers.Adam(rate), loss=[_relative_error(target) for target in targets])
    data = tf.data.Dataset.from_tensor_slices((tuple(inputs), tuple(targets)))
    data = data.shuffle(len(inputs[0]), seed=request["seed"]).repeat().batch(batch).prefetch(2)
    callbacks: list[Any] = [_Progress(steps)]
    if request["method"] == "prune":
        callbacks.append(tfmot.sparsity.keras.UpdatePruningStep())
    model.fit(data, epochs=1, steps_per_epoch=steps, verbose=0, callbacks=callbacks)


def _relative_error(target: np.ndarray) -> Any:
    scale = 1.0 / max(float(np.mean(np.square(target, dtype="float64"))), 1e-12)

    def loss(want: tf.Tensor, got: tf.Tensor) -> tf.Tensor:
        return scale * tf.reduce_mean(tf.square(got - want))

    return loss


class _Progress(tf_keras.callbacks.Callback):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps, self._every = steps, max(1, steps // _REPORTS)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (batch + 1) % self._every == 0 or batch + 1 == self._steps:
            print(json.dumps({"step": batch + 1, "loss": float((logs or {}).get("loss", float("nan")))}), flush=True)


def _weights(model: tf_keras.Model, names: list[list[str]]) -> dict[str, np.ndarray]:
    """By the names under which they came. tfmot's quantiser keeps a layer's weights in its wrapper, among numbers of its own."""
    made = {layer.name.removeprefix("quant_"): layer for layer in model.layers}
    found = {}
    for i, own in enumerate(names):
        values = {weight.name.split("/")[-1]: weight.numpy() for weight in made[f"layer_{i}"].weights}
        found.update({f"weight_{i}_{j}": values[name] for j, name in enumerate(own)})
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
