"""How well the task is done: the measure that fits labels and outputs, the compiled one, the caller's own."""

import keras
import numpy as np
import pytest
from sklearn.metrics import jaccard_score, roc_auc_score

from keras_privpart.auditing.scoring.utility import fitting, label_auc, mean_iou, utilities
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError

RNG = np.random.default_rng(0)
COUNT = 40


@pytest.mark.parametrize(
    ("truth", "answers", "name"),
    [
        (RNG.integers(0, 3, COUNT), (COUNT, 3), "accuracy"),
        (np.eye(3)[RNG.integers(0, 3, COUNT)], (COUNT, 3), "accuracy"),
        (RNG.integers(0, 2, COUNT), (COUNT, 1), "accuracy"),
        (RNG.integers(0, 4, (COUNT, 7)), (COUNT, 7, 4), "accuracy"),
        (RNG.normal(size=COUNT), (COUNT, 1), "mean absolute error"),
        (RNG.integers(5, 90, COUNT), (COUNT, 1), "mean absolute error"),
        (RNG.normal(size=(COUNT, 4)), (COUNT, 4), "mean absolute error"),
        (RNG.integers(0, 2, (COUNT, 4)), (COUNT, 4), "AUC, mean of labels"),
        (RNG.integers(0, 3, (COUNT, 4, 4)), (COUNT, 4, 4, 3), "mean IoU"),
        (RNG.integers(0, 2, (COUNT, 4, 4, 1)), (COUNT, 4, 4, 1), "mean IoU"),
    ],
)
def test_labels_and_outputs_call_for_a_measure(truth, answers, name):
    found, measure = fitting(truth, RNG.random(answers))
    assert found == name
    assert np.isfinite(measure(truth, RNG.random(answers))).all()


def test_labels_that_fit_no_output_have_none():
    assert fitting(RNG.normal(size=(COUNT, 2)), RNG.random((COUNT, 3))) is None


def test_areas_and_curves_agree_with_scikit_learn():
    labels, scores = RNG.integers(0, 2, (COUNT, 3)), RNG.random((COUNT, 3))
    assert label_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    pixels, answers = RNG.integers(0, 3, (COUNT, 5, 5)), RNG.random((COUNT, 5, 5, 3))
    assert mean_iou(pixels, answers) == pytest.approx(jaccard_score(pixels.ravel(), answers.argmax(-1).ravel(), average="macro"))


def model_of(outputs):
    x = keras.Input((2,))
    heads = {name: keras.layers.Dense(units, name=name)(x) for name, units in outputs.items()}
    return keras.Model(x, heads if len(heads) > 1 else next(iter(heads.values())))


def scored(outputs, task, answers, metric=None, **compiled):
    model = model_of(outputs)
    if compiled:
        model.compile(loss="mse", **compiled)
    return utilities(model, Samples.of((np.zeros((COUNT, 2)), {"task": task})), [answers, answers], metric, 0, 1)


TRUTH = RNG.normal(size=COUNT)
NEAR = [(TRUTH + 0.5)[:, None]]


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({}, "mean absolute error", 0.5),
        ({"metric": "mse"}, "mean squared error", 0.25),
        ({"metric": keras.metrics.RootMeanSquaredError(name="rmse")}, "rmse", 0.5),
        ({"metric": lambda truth, answers: float(np.max(np.abs(truth - answers[:, 0])))}, "<lambda>", 0.5),
        ({"metrics": ["mse"]}, "mean squared error", 0.25),
        ({"metrics": [keras.metrics.RootMeanSquaredError(name="rmse")]}, "rmse", 0.5),
    ],
)
def test_a_measure_is_fitting_compiled_or_given(options, name, value):
    found = scored({"price": 1}, TRUTH, NEAR, **options)
    assert list(found) == [name]
    assert found[name].value == pytest.approx(value, abs=1e-6)
    assert found[name].low <= found[name].value + 1e-9
    assert found[name].high >= found[name].value - 1e-9


def test_intervals_of_whole_measures_hold_what_resamples_give():
    labels = RNG.integers(0, 2, (COUNT, 3))
    (score,) = scored({"labels": 3}, labels, [labels + RNG.normal(size=labels.shape)]).values()
    assert 0.5 < score.low < score.value < score.high <= 1.0


def test_every_output_has_a_measure_of_its_own():
    species = RNG.integers(0, 3, COUNT)
    # Keras orders the outputs of a dict by name.
    found = scored({"age": 1, "species": 3}, {"species": species, "age": TRUTH}, [*NEAR, np.eye(3)[species]])
    assert {name: score.value for name, score in found.items()} == {
        "mean absolute error of age": pytest.approx(0.5),
        "accuracy of species": 1.0,
    }


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("f1", "metric='f1'; expected one of accuracy, mae"),
        (3, "metric=3; expected a name"),
        (lambda truth, answers: answers, "it gave an array of shape"),
        ("iou", "which it cannot measure"),
    ],
)
def test_a_measure_that_does_not_fit_is_refused(metric, message):
    with pytest.raises(AuditError, match=message):
        scored({"price": 2}, RNG.normal(size=(COUNT, 3)), [RNG.random((COUNT, 2))], metric)
