"""Every checked argument: NumPy's whole numbers are taken and become plain ones, `True` and broken numbers are refused by name."""

import json

import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart import arguments
from keras_privpart.auditing.attacks.reconstruction.inversion import InversionAttack
from keras_privpart.auditing.checks import check_budgets, check_settings
from keras_privpart.auditing.settings import AuditSettings
from keras_privpart.errors import ArgumentError, AuditError, ChannelError, EngineError, PrivPartError, ServingError, TrainingError
from keras_privpart.serving.servers.certificates import make_certificates
from keras_privpart.training.privacy_terms import networks
from keras_privpart.training.roster import Roster


class _Inversion(InversionAttack):
    def _search(self, *arguments):
        raise NotImplementedError


WHOLE = [
    ("classes", lambda v: kp.AttributeAdversary("a", classes=v).classes, TrainingError),
    ("size", lambda v: kp.AttributeAdversary("a", attribute_type="continuous", size=v).size, TrainingError),
    ("steps", lambda v: kp.ReconstructionAdversary(steps=v).steps, TrainingError),
    ("classes", lambda v: kp.goals.PullToClassMean(v).classes, TrainingError),
    ("classes", lambda v: kp.goals.PredictPrior(v).classes, TrainingError),
    ("classes", lambda v: kp.regularizers.ConditionalEntropy(v).classes, TrainingError),
    ("classes", lambda v: kp.regularizers.BitsBeyondClass(v, 0.5).classes, TrainingError),
    ("projections", lambda v: kp.regularizers.JacobianPenalty(projections=v).projections, TrainingError),
    ("steps", lambda v: kp.schedules.LinearWeight(0.0, 1.0, steps=v).steps, TrainingError),
    ("delay", lambda v: kp.schedules.CosineWeight(0.0, 1.0, steps=5, delay=v).delay, TrainingError),
    ("every", lambda v: kp.RestartAdversaries(v).every, TrainingError),
    ("pool", lambda v: Roster([], [(3,)], (3,), pool=v).pool, TrainingError),
    ("units", lambda v: networks.probe([(3,)], v).output.shape[-1], TrainingError),
    ("bits", lambda v: kp.QuantizeChannel(v).bits, ChannelError),
    ("units", lambda v: kp.GateChannel(0.5, units=v).units, ChannelError),
    ("most", lambda v: _Inversion("name", (0.1,), most=v).most, AuditError),
]
NUMBERS = [
    ("stddev", lambda v: kp.GaussianChannel(v).stddev, ChannelError),
    ("limit", lambda v: kp.QuantizeChannel(4, limit=v).limit, ChannelError),
    ("rate", lambda v: kp.DropoutChannel(v).rate, ChannelError),
    ("threshold", lambda v: kp.goals.Reversal(threshold=v).threshold, TrainingError),
    ("weight", lambda v: kp.ReconstructionAdversary(weight=v).weight, TrainingError),
    ("limit", lambda v: kp.regularizers.JacobianPenalty(limit=v).limit, TrainingError),
    ("start", lambda v: kp.schedules.LinearWeight(v, 1.0, steps=5).start, TrainingError),
]


@pytest.mark.parametrize(("argument", "made", "error"), WHOLE)
def test_whole_numbers(argument, made, error):
    assert made(np.int64(3)) == 3
    assert type(made(np.int64(3))) is int
    assert made(np.uint8(3)) == made(3)
    for bad in (True, np.True_, 1.5, 3.0, "3", -1):
        with pytest.raises(error, match=rf"Received {argument}=.*expected a whole number from \d"):
            made(bad)


@pytest.mark.parametrize(("argument", "made", "error"), NUMBERS)
def test_numbers(argument, made, error):
    for given in (0.5, np.float32(0.5), np.float64(0.5)):
        assert made(given) == 0.5
        assert type(made(given)) is float
    for bad in (True, np.True_, "0.5", -0.5, float("nan"), float("inf")):
        with pytest.raises(error, match=rf"Received {argument}=.*expected a (finite )?number"):
            made(bad)


def test_classes_may_be_counted_by_numpy():
    y = np.array([0, 2, 1])
    adversary = kp.AttributeAdversary("a", classes=y.max() + 1)
    assert json.loads(json.dumps(adversary.classes)) == 3


def test_settings_of_an_audit():
    settings = AuditSettings(None, None, None, seeds=np.int64(2), seed=np.uint8(1), budgets=[np.int64(100), None])
    assert json.loads(json.dumps([settings.seeds, settings.seed, settings.budgets])) == [2, 1, [100, None]]
    check_settings(seeds=np.int64(2), seed=np.int32(0), epochs=None)
    check_budgets([np.int64(100), None])
    for bad in (True, 1.5, 0):
        with pytest.raises(AuditError, match=r"Received seeds=.*whole number from 1"):
            check_settings(seeds=bad)
        with pytest.raises(AuditError, match="Received budgets="):
            check_budgets([bad])


@pytest.mark.parametrize("days", [True, 1.5, 0, 826])
def test_days_of_a_certificate(tmp_path, days):
    with pytest.raises(EngineError, match=r"Received days=.*a whole number from 1 to 825\. "):
        make_certificates(tmp_path / "certs", days=days)


def test_what_a_message_says():
    with pytest.raises(AuditError, match=r"^Received n=0 for 'probe'; expected a whole number from 1 to 5\. Give fewer\.$"):
        arguments.whole("n", 0, AuditError, most=5, owner="probe", advice="Give fewer.")
    with pytest.raises(AuditError, match=r"^Received x=1\.0; expected a number above 0 and under 1\.$"):
        arguments.number("x", 1.0, AuditError, positive=True, below=1.0)
    with pytest.raises(AuditError, match=r"^Received kind='c'; expected one of a, b\. Choose one of them\.$"):
        arguments.choice("kind", "c", ("a", "b"), AuditError)
    assert arguments.choice("kind", "a", ("a", "b"), AuditError) == "a"


def test_wrong_arguments_of_clients_are_serving_errors_and_value_errors():
    assert issubclass(ArgumentError, ServingError)
    assert issubclass(ArgumentError, ValueError)


@pytest.mark.parametrize("wrong", [{"data": "all"}, {"private": "Male"}, {"queries": 1}, {"input_private": False}])
def test_a_wrong_threat_model_has_an_error_of_its_own(wrong):
    with pytest.raises(PrivPartError, match="Received") as caught:
        kp.ThreatModel(**wrong)
    assert type(caught.value).__name__ == "ThreatModelError"
    assert isinstance(caught.value, ValueError)
