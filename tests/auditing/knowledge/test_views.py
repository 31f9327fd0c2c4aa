"""Looks at inputs through models and callables."""

import keras
import numpy as np
import pytest

from keras_privpart.auditing.knowledge.frames import frame
from keras_privpart.auditing.knowledge.passage import Passage
from keras_privpart.auditing.knowledge.views import View, Views, answer_view, boundary_view
from keras_privpart.channels import GaussianChannel
from keras_privpart.errors import AuditError

RNG = np.random.default_rng(0)


def chunks_of(view, x):
    return [[t.numpy() for t in tensors] for tensors, _ in view.chunks(x, np.arange(len(x)))]


def test_boundary_and_answer(planted, digits):
    x = digits[1].x
    np.testing.assert_array_equal(boundary_view(planted).see(x)[0], np.asarray(planted.device(x, training=False)))
    np.testing.assert_allclose(answer_view(planted).see(x)[0], np.asarray(planted.model(x, training=False)), atol=1e-6)


def test_a_channel_is_drawn_anew_at_every_look(open_window, digits):
    keras.utils.set_random_seed(0)
    view = boundary_view(open_window.with_channel(GaussianChannel(stddev=1.0)))
    x = digits[1].x
    first, second = view.see(x)[0], view.see(x)[0]
    assert np.abs(first - second).max() > 1
    assert np.std(first - x) == pytest.approx(1.0, abs=0.05)
    epochs = [np.concatenate([c[0] for c in chunks_of(view, x)]) for _ in range(2)]
    assert np.abs(epochs[0] - epochs[1]).max() > 1


def test_epochs_do_not_ask_the_server_half_for_ever(open_window, digits, monkeypatch):
    asked = []
    answer = Passage.answer
    monkeypatch.setattr(Passage, "answer", lambda self, before, by_key: asked.append(len(before[0])) or answer(self, before, by_key))
    monkeypatch.setattr("keras_privpart.auditing.knowledge.kept_looks.MOST", 8)
    views, x = Views(open_window.with_channel(GaussianChannel(stddev=1.0))), digits[1].x[:100]
    for view in (views.answer, views.decision):
        asked.clear()
        epochs = [chunks_of(view.looking(4), x)[0][0] for _ in range(6)]
        assert asked.count(len(x)) - 2 == 8  # two to see whether looks differ
        assert not np.array_equal(epochs[-1], epochs[-2])


def test_without_noise_one_look_is_kept():
    calls = []

    def observe(x):
        calls.append(len(x))
        return 2 * x

    view, x = View("twice", observe), RNG.normal(size=(300, 4))
    for _ in range(3):
        ((seen,),) = chunks_of(view, x)
        np.testing.assert_allclose(seen, 2 * x, rtol=1e-6)
    assert calls == [256, 256, 256, 44]
    other = x + 1
    ((seen,),) = chunks_of(view, other)
    np.testing.assert_allclose(seen, 2 * other, rtol=1e-6)


def test_large_boundaries_come_in_chunks(monkeypatch):
    monkeypatch.setattr("keras_privpart.auditing.knowledge.views._KEEP_BYTES", 0)
    monkeypatch.setattr("keras_privpart.auditing.knowledge.views._CHUNK_BYTES", 256 * 16)
    x = RNG.normal(size=(600, 4)).astype("float32")
    truths = [truth.numpy() for _, truth in View("itself", lambda x: x).chunks(x, np.arange(600))]
    assert [len(t) for t in truths] == [256, 256, 88]
    np.testing.assert_array_equal(np.concatenate(truths), np.arange(600))


def test_what_is_seen_becomes_float32():
    seen = View("ids and mask", lambda x: {"ids": x.astype("int64"), "mask": x > 0}).see(np.arange(4))
    assert [t.dtype for t in seen] == [np.float32, np.float32]
    assert seen[1].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("observe", [lambda x: x / 0.0, lambda x: x[:1]], ids=["infinite", "no batch"])
def test_what_cannot_be_attacked_is_refused(observe):
    with np.errstate(divide="ignore", invalid="ignore"), pytest.raises(AuditError, match="tensor 0 of broken"):
        View("broken", observe).see(np.ones((3, 2)))


def test_many_looks_average_the_noise_away_and_run_what_is_before_it_once(open_window, digits, monkeypatch):
    views = Views(open_window.with_channel(GaussianChannel(stddev=1.0)))
    x = digits[1].x
    often = views.boundary.looking(16)
    spread = [np.std(view.see(x)[0] - views.boundary.looking(1000).see(x[:150])[0][: len(x)]) for view in (views.boundary, often)]
    assert spread[0] == pytest.approx(1.0, abs=0.05)
    assert spread[1] == pytest.approx(0.25, abs=0.03)
    calls = []
    before = often._before
    monkeypatch.setattr(often, "_before", lambda x, number: calls.append(len(x)) or before(x, number))
    ran = []
    passage = before.__self__
    run = passage._before
    monkeypatch.setattr(passage, "_before", lambda x: ran.append(len(x)) or run(x))
    other = x.copy()
    for _ in range(3):
        often.see(other)
    assert len(calls) >= 3
    assert ran == [len(x)], "sixteen looks, three times, and the device half ran once"


def test_the_decision_after_many_looks_is_how_often_each_class_came_first(open_window, digits):
    views = Views(open_window.with_channel(GaussianChannel(stddev=2.0)))
    seen = views.decision.looking(16).see(digits[1].x)[0]
    np.testing.assert_allclose(seen.sum(axis=1), 1.0, rtol=1e-5)
    assert len(np.unique(np.round(seen * 16))) > 2, "it is not the same every time"
    np.testing.assert_allclose(seen * 16, np.round(seen * 16), atol=1e-4)


def test_without_noise_more_looks_see_the_same(planted, digits):
    view = Views(planted).boundary
    assert view.repeats(digits[1].x)
    np.testing.assert_array_equal(view.looking(16).see(digits[1].x)[0], view.see(digits[1].x)[0])


def test_attackers_lack_the_key_of_frozen_noise(open_window, digits):
    views, x = Views(open_window.with_channel(GaussianChannel(0.5, normalize=False, frozen=True))), digits[1].x
    for view in (views.boundary, views.answer):
        sent = [view.sent.see(x)[0] for _ in range(2)]
        asked = [view.see(x)[0] for _ in range(2)]
        np.testing.assert_array_equal(*sent)
        assert np.abs(asked[0] - asked[1]).max() > 0.5, "attackers draw anew"
        assert np.abs(asked[0] - sent[0]).max() > 0.5, "and other noise than the device"
        assert view.sent.repeats(x)
        assert not view.repeats(x)
    noise = views.boundary.see(x)[0] - x
    assert noise.std() == pytest.approx(0.5, abs=0.02)
    inside = views.boundary.inside
    assert np.abs(np.asarray(inside.tensors(x)[0]) - views.boundary.sent.see(x)[0]).max() > 0.5
    fresh = Views(open_window.with_channel(GaussianChannel(0.5, normalize=False))).boundary
    assert fresh.sent is fresh


@pytest.mark.parametrize("make", [lambda parts: Views(parts).boundary, lambda parts: View("itself", lambda x: x)], ids=["split", "whole"])
def test_frames_are_averaged_each_another_input(open_window, digits, make):
    parts = open_window.with_channel(GaussianChannel(0.01, normalize=False))
    x = digits[1].x
    seen = make(parts).looking(4, frames=True).see(x)[0]
    np.testing.assert_allclose(seen, np.mean([frame(x, i) for i in range(4)], axis=0), atol=0.03)
    assert np.abs(seen - x).max() > 0.1


def test_near_duplicates_of_frozen_noise_average_out(open_window, digits):
    view, x = Views(open_window.with_channel(GaussianChannel(0.5, normalize=False, frozen=True))).boundary, digits[1].x
    often, frames = view.looking(16).sent.see(x)[0], view.looking(16, frames=True).sent.see(x)[0]
    assert (often - x).std() == pytest.approx(0.5, abs=0.02)
    assert (frames - np.mean([frame(x, i) for i in range(16)], axis=0)).std() == pytest.approx(0.125, abs=0.01)
