"""Multiply-adds against TensorFlow: the profiler on real models, the traced graph layer by layer."""

import keras
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart.partitioning.costs import formulas
from keras_privpart.partitioning.costs.traced import may_multiply, traced_multiply_adds


def _profiled(model):
    """Float operations of one example, by TensorFlow's profiler: all of them, and matrix products and convolutions alone."""
    spec = tf.TensorSpec([1, *model.inputs[0].shape[1:]], model.inputs[0].dtype)
    graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec).graph
    every = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()).with_empty_output()
    all_options = every.build()
    products = every.with_accounted_types(["Conv2D", "DepthwiseConv2dNative", "MatMul"]).build()
    return [tf.compat.v1.profiler.profile(graph, options=options).total_float_ops for options in (all_options, products)]


@pytest.mark.parametrize(("name", "size", "rest"), [("ResNet50", 32, 0.02), ("MobileNetV2", 32, 0.06)])
def test_real_models_agree_with_the_profiler(name, size, rest):
    """Products agree exactly: two float operations are one multiply-add. What the counter leaves out is `rest` of all at most."""
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    total, products = _profiled(model)
    table = kp.cuts(model)
    for cut in (table[0], table[-1]):
        assert 2 * (cut.device_macs + cut.server_macs) == products
    assert (1 - rest) * total <= products < total


def _call(layer, *shapes):
    symbols = [keras.KerasTensor((None, *shape)) for shape in shapes]
    args = (symbols,) if isinstance(layer, (layers.Dot, layers.Attention)) else tuple(symbols)
    outputs = keras.tree.flatten(layer(*args))
    return (args, {}), [s.shape for s in symbols], [o.shape for o in outputs]


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (layers.Dense(5), [(3, 4)]),
        (layers.EinsumDense("abc,cde->abde", output_shape=(None, 3, 2)), [(4, 5)]),
        (layers.Conv1D(4, 3, strides=2), [(11, 3)]),
        (layers.Conv2D(6, (3, 2), padding="same", groups=2), [(7, 5, 4)]),
        (layers.Conv3D(2, 2), [(4, 5, 6, 3)]),
        (layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2), [(8, 8, 3)]),
        (layers.DepthwiseConv1D(3), [(8, 3)]),
        (layers.SeparableConv2D(5, 3, depth_multiplier=2, strides=2), [(9, 9, 3)]),
        (layers.SeparableConv1D(5, 3), [(9, 3)]),
        (layers.Conv1DTranspose(4, 3, strides=2), [(5, 3)]),
        (layers.Conv2DTranspose(4, 3, strides=2, padding="same"), [(5, 6, 3)]),
        (layers.Conv3DTranspose(2, 2), [(3, 4, 5, 2)]),
        (layers.SimpleRNN(3, unroll=True), [(4, 2)]),
        (layers.LSTM(3, unroll=True), [(4, 2)]),
        (layers.GRU(3, unroll=True, return_sequences=True), [(4, 2)]),
        (layers.Bidirectional(layers.LSTM(3, unroll=True, return_sequences=True)), [(4, 2)]),
        (layers.Dot((1, 2)), [(4, 3), (5, 4)]),
        (layers.Attention(), [(4, 3), (5, 3)]),
        (layers.MultiHeadAttention(2, 3), [(4, 6), (4, 6)]),
        (layers.MultiHeadAttention(2, 3, value_dim=5, output_shape=7), [(4, 6), (5, 2), (5, 8)]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else "",
)
def test_formulas_agree_with_the_traced_graph(layer, shapes):
    arguments, inputs, outputs = _call(layer, *shapes)
    counted = formulas.multiply_adds(layer, arguments, inputs, outputs)
    assert counted is not None
    assert counted > 0
    assert counted == traced_multiply_adds(layer, arguments)


def test_steps_of_a_wrapped_layer_count_each():
    layer = layers.TimeDistributed(layers.Dense(3))
    assert formulas.multiply_adds(layer, *_call(layer, (5, 4))) == 5 * 4 * 3


def test_holes_of_a_dilated_kernel_cost_nothing():
    layer = layers.Conv2D(4, 3, dilation_rate=2)
    assert formulas.multiply_adds(layer, *_call(layer, (9, 9, 2))) == 5 * 5 * 4 * 9 * 2


def test_convolutional_recurrence():
    layer = layers.ConvLSTM2D(2, 3, padding="same")
    # Four gates of two filters, from three input channels and two of state, on a 4x4 grid, for five steps.
    assert formulas.multiply_adds(layer, *_call(layer, (5, 4, 4, 3))) == 5 * 16 * 9 * (3 + 2) * 4 * 2


@keras.saving.register_keras_serializable(package="tests")
class Mixer(layers.Layer):
    """A custom layer with layers inside."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(7), layers.Dense(3)

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 7))

    def call(self, x):
        return self.second(keras.ops.relu(self.first(x)))


def test_custom_layers_are_traced():
    layer = Mixer()
    assert formulas.multiply_adds(layer, *_call(layer, (5,))) == 5 * 7 + 7 * 3


def test_operations_are_traced():
    a, b = keras.KerasTensor((None, 4, 5)), keras.KerasTensor((None, 5, 6))
    operation = keras.ops.matmul(a, b)._keras_history.operation
    assert may_multiply(operation)
    assert formulas.multiply_adds(operation, ((a, b), {}), [a.shape, b.shape], [(None, 4, 6)]) == 4 * 5 * 6
    assert formulas.multiply_adds(keras.ops.tanh(a)._keras_history.operation, ((a,), {}), [a.shape], [a.shape]) == 0


@pytest.mark.parametrize(
    "layer", [layers.Embedding(9, 4), layers.BatchNormalization(), layers.LayerNormalization(axis=(1, 2)), layers.PReLU()]
)
def test_tables_and_scales_cost_nothing(layer):
    shapes = [(5,)] if isinstance(layer, layers.Embedding) else [(5, 4)]
    assert formulas.multiply_adds(layer, *_call(layer, *shapes)) == 0


def test_free_dimensions_are_unknown():
    layer = layers.Conv2D(3, 3)
    assert formulas.multiply_adds(layer, *_call(layer, (None, None, 3))) is None
    x = keras.Input((None, 4))
    model = keras.Model(x, layers.Dense(1)(layers.GlobalAveragePooling1D()(layers.Dense(3, name="each")(x))))
    first, second = kp.cuts(model)
    assert (first.device_macs, first.server_macs) == (None, 3)
    assert (second.nbytes, first.nbytes) == (12, None)


def test_sizes():
    assert formulas.elements((None, 3, 4)) == 12
    assert formulas.elements((None,)) == 1
    assert formulas.elements((None, None, 4)) is None
    assert formulas.nbytes((None, 3, 4), "float16") == 24
    assert formulas.nbytes((None, 3), "bfloat16") == 6
    assert formulas.nbytes((None, 3), "bool") == 3
    shared = keras.Variable([[1.0, 2.0]])
    assert formulas.parameters([shared, keras.Variable(0.0), shared]) == 3
