"""What a model with modalities decodes itself: of spikes alone, in measured units, scored alike."""

import numpy as np
import pytest
import torch
from synthetic import make_session
from test_decode_session import Known

from ibl_mtm.evaluation.behaviour.decode_by_model import decode_by_model
from ibl_mtm.evaluation.behaviour.decode_session import decode_behaviour
from ibl_mtm.evaluation.behaviour.decoding_scores import calibration_error
from ibl_mtm.evaluation.predictors import ModelPredictor
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.modalities import describe_modalities, read_modalities
from ibl_mtm.sessions.trial_format import trial_format

pytestmark = pytest.mark.usefixtures("short")

NAMES = ("choice", "wheel_speed", "lick_rate", "whisker_motion_energy", "block")
SIZES = {"width": 16, "layers": 1, "heads": 2, "mlp": 16, "stitch_width": None}


@pytest.fixture
def ds():
    ds = make_session(n_units=6, n_trials=80, n_bins=10, seed=3)
    return ds.drop_vars("whisker_motion_energy")


def make_model(ds, schemes=("neuron", "decoding"), names=NAMES, start=True):
    torch.manual_seed(0)
    scope = Scope(
        units=tuple(ds.unit.values.tolist()),
        sessions=("another", ds.attrs["eid"]),
        regions=(),
        trial_format=trial_format(ds),
        schemes=schemes,
    )
    model = MtM(ModelSettings(**SIZES, modalities=names), scope)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if names and start:
        train = np.flatnonzero(ds.split == "train")
        model.start_behaviour(1, describe_modalities(read_modalities(ds, names), train, names))
    return model.eval()


def test_answers_are_of_spikes_alone_and_in_measured_units(ds):
    model = make_model(ds)
    answers = decode_by_model(model, ds)
    assert set(answers) == {"choice", "wheel_speed", "lick_rate", "block"}  # there is no camera
    assert {name: a.shape for name, a in answers.items() if a.ndim == 2} == {
        "wheel_speed": (80, 10), "lick_rate": (80, 10),
    }  # fmt: skip
    other = ds.copy(deep=True)
    for name in ("choice", "wheel_velocity", "lick_count"):
        other[name][:] = -other[name].values[::-1]
    for name, answer in decode_by_model(model, other).items():
        np.testing.assert_array_equal(answer, answers[name])
    with torch.no_grad():
        model.modalities.read_out.zero_()
        model.modalities.read_out_bias.zero_()
    plain, train = decode_by_model(model, ds), ds.split.values == "train"
    # Read out of nothing: the mean of the training trials, licks per second.
    licks = ds.lick_count.values[train].mean() / 0.02
    np.testing.assert_allclose(plain["lick_rate"], licks, rtol=1e-4)
    speed = np.abs(ds.wheel_velocity.values[train]).mean()
    np.testing.assert_allclose(plain["wheel_speed"], speed, rtol=1e-4)


@pytest.mark.parametrize(("schemes", "names"), [(("neuron",), ()), (("neuron", "encoding"), NAMES)])
def test_a_model_that_was_not_trained_to_decode_has_no_answer(ds, schemes, names):
    assert decode_by_model(make_model(ds, schemes, names), ds) == {}


def test_only_prompts_of_activity_are_decoded_linearly(ds):
    model = make_model(ds, ("neuron", "causal", "encoding", "decoding"))
    predictor = ModelPredictor(model, ds, np.flatnonzero(ds.split == "test"))
    assert list(predictor.features()) == ["neuron", "causal"]
    alone = ModelPredictor(make_model(ds, ("decoding",)), ds, np.arange(3))
    assert list(alone.features()) == ["decoding"]


class Knowing(Known):
    """A predictor that answers what it is given."""

    def __init__(self, answers: dict[str, np.ndarray]) -> None:
        super().__init__({})
        self._answers = answers

    def answers(self) -> dict[str, np.ndarray]:
        return self._answers


def test_a_models_answers_are_scored_on_the_trials_of_the_other_decoders(ds):
    split = np.array(["train", "test", "train", "val", "train"])[np.arange(80) % 5]
    ds["choice"][6] = 0
    test = ds.included.values & (split == "test")
    labelled = test & (ds.choice.values != 0)
    logit = np.where(ds.choice.values > 0, 2.0, -2.0)
    wrong = np.flatnonzero(labelled)[0]
    logit[wrong] *= -1
    logit[~test] *= -1  # what is not tested has no say
    speed = np.abs(ds.wheel_velocity.values.astype(float))
    said = np.where(test[:, None], speed + 0.1, 1e6)
    answers = {"choice": logit, "wheel_speed": said}
    tasks = ["choice", "wheel_speed", "feedback"]
    found = decode_behaviour(Knowing(answers), ds, split, tasks).scores
    own = found["choice"]["by_model"]
    assert own["n_test"] == labelled.sum() == found["choice"]["n_test"]
    assert own["accuracy"] == pytest.approx(1 - 1 / labelled.sum())
    assert own["intervals"]["accuracy"][0] < own["accuracy"] <= own["intervals"]["accuracy"][1]
    trace = speed[test]
    by_hand = 1 - 0.01 * trace.size / ((trace - trace.mean()) ** 2).sum()
    assert found["wheel_speed"]["by_model"]["r2"] == pytest.approx(by_hand)
    assert "by_model" not in found["feedback"]


def test_calibration_error_by_hand():
    # Two bins of two trials: 0.2 said and 0 true; 0.5 and 0.9 said, one of two true.
    share = np.array([0.9, 0.1, 0.3, 0.5])
    label = np.array([1, -1, -1, -1])
    logit = np.log(share / (1 - share))
    expected = (2 * abs(0.2 - 0) + 2 * abs(0.7 - 0.5)) / 4
    assert calibration_error(label, logit, n_bins=2) == pytest.approx(expected)
    assert calibration_error(label, logit) == pytest.approx((0.1 + 0.1 + 0.3 + 0.5) / 4)
