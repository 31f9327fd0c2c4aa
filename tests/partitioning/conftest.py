"""Small models of every architecture that the engine must cut, each with a batch to run."""

import keras
import numpy as np
import pytest
from keras import layers

RNG = np.random.default_rng(0)


def _image(*shape):
    return RNG.random((3, *shape), dtype="float32")


def residual():
    x = image = keras.Input((8, 8, 3))
    for _ in range(2):
        skip = x
        x = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.Conv2D(4, 3, padding="same")(x)
        x = layers.Add()([x, layers.Conv2D(4, 1)(skip)])
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(5, activation="softmax", name="scores")(x)), _image(8, 8, 3)


def unet():
    image = keras.Input((8, 8, 1))
    a = layers.Conv2D(4, 3, padding="same", activation="relu", name="down1")(image)
    b = layers.Conv2D(4, 3, padding="same", activation="relu", name="down2")(layers.MaxPooling2D()(a))
    c = layers.Conv2D(8, 3, padding="same", activation="relu", name="bottom")(layers.MaxPooling2D()(b))
    d = layers.Concatenate()([layers.UpSampling2D()(c), b])
    e = layers.Concatenate()([layers.Conv2DTranspose(4, 2, strides=2)(d), a])
    return keras.Model(image, layers.Conv2D(1, 1, name="segments")(e)), _image(8, 8, 1)


def densenet():
    x = image = keras.Input((6, 6, 2))
    for _ in range(3):
        new = layers.Conv2D(3, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
        x = layers.Concatenate()([x, new])
    return keras.Model(image, layers.Dense(2)(layers.Flatten()(x))), _image(6, 6, 2)


def two_tower():
    encoder = keras.Sequential([keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(3)], name="encoder")
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    score = layers.Dot(1, name="score")([encoder(left), encoder(right)])
    return keras.Model([left, right], score), [_image(4), _image(4)]


def masked_lstm():
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(20, 6, mask_zero=True)(ids)
    x = layers.Dropout(0.1)(x)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.LSTM(3)(x)
    batch = RNG.integers(1, 20, (3, 7)).astype("int32")
    batch[0, 4:] = 0
    batch[2, 2:] = 0
    return keras.Model(ids, layers.Dense(2, name="sentiment")(x)), batch


def encoder_decoder():
    source, target = keras.Input((5, 3), name="source"), keras.Input((4, 2), name="target")
    _, h, c = layers.LSTM(4, return_state=True, name="reader")(source)
    x = layers.LSTM(4, return_sequences=True, name="writer")(target, initial_state=[h, c])
    return keras.Model({"source": source, "target": target}, layers.Dense(2, name="words")(x)), {
        "source": _image(5, 3),
        "target": _image(4, 2),
    }


def transformer():
    ids = keras.Input((6,), dtype="int32", name="ids")
    x = layers.Embedding(30, 8, mask_zero=True)(ids)
    x = x + layers.Embedding(6, 8, name="positions")(keras.ops.ones_like(ids) * 2)
    attended = layers.MultiHeadAttention(2, 4, name="attention")(x, x, use_causal_mask=True)
    x = layers.LayerNormalization()(layers.Add()([x, attended]))
    forward = layers.Dense(8)(layers.Dense(16, activation="gelu")(x))
    x = layers.LayerNormalization()(layers.Add()([x, forward]))
    x = layers.GlobalAveragePooling1D()(x)
    batch = RNG.integers(1, 30, (3, 6)).astype("int32")
    batch[1, 3:] = 0
    return keras.Model(ids, layers.Dense(3, name="answer")(x)), batch


def transfer():
    inside = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(inside)
    x = layers.BatchNormalization(name="norm")(x)
    base = keras.Model(inside, layers.ReLU(name="relu")(x), name="base")
    base.trainable = False
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(layers.RandomFlip()(image))
    x = base(x, training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    head = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="hidden"), layers.Dense(2, name="top")], name="head")
    return keras.Model(image, head(x)), _image(8, 8, 3) * 255


def nested_dicts():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    inner = keras.Model({"a": a, "b": b}, {"sum": layers.Add(name="plus")([a, b]), "wide": layers.Dense(5, name="wide")(b)}, name="inner")
    middle_in = keras.Input((3,), name="m")
    made = inner({"a": layers.Dense(3, name="first")(middle_in), "b": middle_in})
    middle = keras.Model(middle_in, made, name="middle")
    x = keras.Input((3,), name="x")
    out = middle(x)
    return keras.Model({"x": x}, {"left": layers.Dense(2, name="left")(out["sum"]), "right": out["wide"]}), {"x": _image(3)}


def nested_by_name():
    """A nested model that takes a list in one order is called on a dict, which Python sorts the other way round."""
    b, a = keras.Input((2,), name="b"), keras.Input((2,), name="a")
    listed = keras.Model([b, a], layers.Concatenate(name="joined")([layers.Dense(2, name="of_b")(b), a]), name="listed")
    x, y = keras.Input((2,), name="x"), keras.Input((2,), name="y")
    return keras.Model([x, y], layers.Dense(1)(listed({"a": layers.Dense(2, name="of_y")(y), "b": x}))), [_image(2), _image(2)]


def dicts():
    image, meta = keras.Input((4, 4, 1), name="image"), keras.Input((2,), name="meta")
    x = layers.Dense(3, name="mix")(layers.Concatenate()([layers.Flatten()(image), layers.Dense(2, name="embed")(meta)]))
    outputs = {"label": layers.Dense(2, name="label")(x), "age": [layers.Dense(1, name="age")(x)]}
    return keras.Model({"image": image, "meta": meta}, outputs), {"image": _image(4, 4, 1), "meta": _image(2)}


def several_outputs_of_one_operation():
    x = keras.Input((6,), name="x")
    left, middle, right = keras.ops.split(layers.Dense(6, name="wide")(x), 3, axis=-1)
    joined = keras.ops.concatenate([keras.ops.tanh(right), left * 2.0 + 1.0, middle], axis=-1)
    return keras.Model(x, layers.Dense(2, name="out")(joined)), _image(6)


def arithmetic():
    x = keras.Input((4, 5), name="x")
    y = layers.Dense(5, name="dense")(x)
    z = keras.ops.einsum("bij,bkj->bik", y, x) / 3.0
    z = keras.ops.where(z > 0, z, keras.ops.expand_dims(keras.ops.mean(y, axis=-1), axis=-1))
    z = keras.ops.reshape(z, (-1, 16))[:, 2:10]
    return keras.Model(x, keras.ops.softmax(layers.Dense(3, name="logits")(z), axis=-1)), _image(4, 5)


def mixed_precision():
    with_policy = {"dtype": "mixed_float16"}
    image = keras.Input((6, 6, 1), name="image")
    x = layers.Conv2D(4, 3, **with_policy)(image)
    x = layers.BatchNormalization(**with_policy)(x)
    x = layers.Flatten(**with_policy)(layers.ReLU(**with_policy)(x))
    return keras.Model(image, layers.Dense(2, dtype="float32", name="scores")(x)), _image(6, 6, 1)


def half_precision_sequential():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="float32", name="full"), layers.Dense(3, name="half")])
        return keras.Sequential([keras.Input((4,)), layers.Dense(4, dtype="float32"), inner, layers.Dense(2, dtype="float32")]), _image(4)
    finally:
        keras.config.set_dtype_policy("float32")


def preprocessing():
    normal = layers.Normalization(name="normal")
    normal.adapt(_image(5))
    x = keras.Input((5,), name="x")
    buckets = layers.Discretization([0.2, 0.5, 0.8], name="buckets")(x)
    y = layers.Concatenate()([normal(x), layers.Flatten()(layers.Embedding(4, 3)(buckets))])
    return keras.Model(x, layers.Dense(2)(layers.GaussianNoise(0.1)(layers.Dense(4)(y)))), _image(5)


def layer_on_both_sides():
    dense = layers.Dense(4, activation="tanh", name="again")
    relu = layers.ReLU(name="relu")
    x = keras.Input((4,), name="x")
    y = relu(dense(relu(dense(relu(dense(x))))))
    return keras.Model(x, layers.Dense(1, name="end")(y)), _image(4)


def early_exits():
    x = keras.Input((4,), name="x")
    a = layers.Dense(4, name="a")(x)
    b = layers.Dense(4, name="b")(a)
    return keras.Model(x, [a, layers.Dense(2, name="c")(b), b]), _image(4)


def clashing_names():
    def tower(name):
        i = keras.Input((4,), name="boundary")
        return keras.Model(i, layers.Dense(3, name="dense")(layers.Dense(4, name="boundary_0")(i)), name=name)

    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    joined = layers.Concatenate(name="boundary_1")([tower("left")(a), tower("right")(b)])
    return keras.Model([a, b], layers.Dense(2, name="dense")(layers.Dense(3, name="boundary")(joined))), [_image(4), _image(4)]


def repeated_masks():
    steps = keras.Input((5, 2), name="steps")
    x = layers.Masking(name="masking")(steps)
    encoder = keras.Sequential([keras.Input((5, 2)), layers.Dense(3), layers.GRU(3, return_sequences=True)], name="encoder")
    x = layers.TimeDistributed(layers.Dense(2, name="each"), name="times")(encoder(x))
    batch = _image(5, 2)
    batch[0, 3:] = 0
    return keras.Model(steps, layers.Attention(name="attend")([x, x])), batch


def cut_out_of_another_model():
    """What `keras.Model` makes of the middle of a model: its symbols have lost their masks, its layers have not."""
    x = keras.Input((6,), name="x")
    ids = keras.ops.cast(keras.ops.floor(x * 4), "int32")
    y = layers.Embedding(9, 4, mask_zero=True, name="embedding")(ids)
    y = layers.MultiHeadAttention(2, 3, name="attention")(y, y)
    out = layers.LSTM(3, name="reader")(layers.Dropout(0.1)(y))
    batch = RNG.integers(1, 9, (3, 6)).astype("int32")
    batch[:, 4:] = 0
    return keras.Model(ids, out), batch


def adapted_inputs():
    """Keras adapts dtype and rank on the way into a nested model, which rounds."""
    half = keras.Input((4,), dtype="float16")
    rounded = keras.Model(half, layers.Dense(3, name="of_rounded")(half), name="rounded")
    steps = keras.Input((3, 1))
    stepwise = keras.Model(steps, layers.GRU(3, name="of_steps")(steps), name="stepwise")
    column = keras.Input((3,))
    flat = keras.Model(column, layers.Dense(2, name="of_column")(column), name="flat")
    x = keras.Input((4,), name="x")
    y = stepwise(rounded(layers.Dense(4, name="first")(x)))
    return keras.Model(x, flat(keras.ops.expand_dims(y, axis=-1))), _image(4)


def convolution_1d():
    signal = keras.Input((12, 2), name="signal")
    x = layers.SeparableConv1D(4, 3)(signal)
    x = layers.Conv1D(4, 3, strides=2, groups=2)(layers.ZeroPadding1D()(x))
    return keras.Sequential([keras.Model(signal, x, name="front"), layers.Flatten(), layers.Dense(3)]), _image(12, 2)


def positions_by_index():
    x = keras.Input((4, 3), name="x")
    y = layers.Permute((2, 1))(layers.PReLU()(layers.Dense(3)(x)))
    y = keras.ops.take(y, [2, 0], axis=1)
    return keras.Model(x, keras.ops.sum(y, axis=(1, 2), keepdims=True)), _image(4, 3)


ARCHITECTURES = (
    residual,
    unet,
    densenet,
    two_tower,
    masked_lstm,
    encoder_decoder,
    transformer,
    transfer,
    nested_dicts,
    nested_by_name,
    dicts,
    several_outputs_of_one_operation,
    arithmetic,
    mixed_precision,
    half_precision_sequential,
    preprocessing,
    layer_on_both_sides,
    early_exits,
    clashing_names,
    repeated_masks,
    adapted_inputs,
    cut_out_of_another_model,
    convolution_1d,
    positions_by_index,
)


def make(build):
    keras.utils.set_random_seed(1)
    model, x = build()
    for variable in model.weights:
        # Fresh biases and moving averages are zeros and ones, which would hide many a mistake.
        if variable.trainable or "moving" in variable.path:
            variable.assign(variable + 0.1 * RNG.random(variable.shape))
    return model, x


@pytest.fixture(autouse=True)
def _names_from_the_start():
    """Automatic names count over the whole session otherwise."""
    keras.backend.clear_session(free_memory=False)  # collecting garbage takes longer than most tests


@pytest.fixture(params=ARCHITECTURES, ids=lambda build: build.__name__)
def architecture(request):
    """A model and a batch, of each architecture in turn."""
    return make(request.param)


@pytest.fixture
def build_model():
    """Makes one architecture by name: a model and a batch."""
    return lambda name: make({build.__name__: build for build in ARCHITECTURES}[name])
