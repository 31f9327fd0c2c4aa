"""How much an attacker got: pure functions of truth and answer.

Scores of classifiers take `weights [..., n]`, how often each example counts, and give one score for each row of them: a bootstrap
draws its resamples as such weights. A score that a resample cannot define, for lack of a class, is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart.training.privacy_terms import objectives

PSNR_CAP = 100.0
SNR_CAP = 60.0
FALSE_POSITIVES = 0.01
_BATCH = 256
_FRAME, _FEW = 256, 64  # samples of a frame; signals whose spectra are held at a time


def ssim(truth: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Structural similarity of images in [0, 1] `[n, h, w, c]`, per example `[n]`. See `training.privacy_terms.objectives.ssim`."""
    parts = [np.asarray(objectives.ssim(truth[i : i + _BATCH], images[i : i + _BATCH])) for i in range(0, len(truth), _BATCH)]
    return np.concatenate(parts).astype("float64")


def ms_ssim_scales(height: int, width: int) -> int:
    """How many of the five published scales fit pictures of this size: those that leave the shorter side at least 11 pixels."""
    return min(len(objectives.MS_SSIM_WEIGHTS), max(1, (min(height, width) // objectives.SSIM_WINDOW).bit_length()))


def ms_ssim(truth: np.ndarray, images: np.ndarray) -> np.ndarray | None:
    """Multi-scale structural similarity of images in [0, 1] `[n, h, w, c]`, per example `[n]`; None under 22 pixels a side.

    The 11x11 window never shrinks; pictures under 176 pixels have fewer than the five published scales, whose weights are then scaled to a
    sum of 1 (see `ms_ssim_scales`). With one scale it would be the SSIM.

    References:
        Wang, Simoncelli, Bovik, "Multiscale Structural Similarity for Image Quality Assessment", Asilomar 2003.
    """
    scales = ms_ssim_scales(*truth.shape[1:3])
    if scales < 2:
        return None
    weights = np.array(objectives.MS_SSIM_WEIGHTS[:scales]) / sum(objectives.MS_SSIM_WEIGHTS[:scales])
    parts = [
        tf.image.ssim_multiscale(truth[i : i + _BATCH], images[i : i + _BATCH], 1.0, weights.tolist(), objectives.SSIM_WINDOW).numpy()
        for i in range(0, len(truth), _BATCH)
    ]
    return np.concatenate(parts).astype("float64")


def mse(truth: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Mean squared error over pixels and channels, per example `[n]`."""
    return np.mean(np.square(truth.astype("float64") - images), axis=tuple(range(1, truth.ndim)))


def psnr(truth: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of images in [0, 1] in decibels, peak 1, per example `[n]`; at most 100 dB, which an exact copy gets."""
    return np.minimum(PSNR_CAP, -10 * np.log10(np.maximum(mse(truth, images), 10 ** (-PSNR_CAP / 10))))


def mean(values: np.ndarray, weights: Any = None) -> np.ndarray:
    """Weighted mean of values `[n]`, `[...]`."""
    w = _weights(weights, len(values))
    return w @ np.asarray(values, "float64") / w.sum(axis=-1)


def explained(truth: np.ndarray, answers: np.ndarray, weights: Any = None) -> np.ndarray:
    """Share of the variance of `truth [n]` that answers explain, in [0, 1]: 1 - error / variance; 0 where they are worse than the mean."""
    truth = np.asarray(truth, "float64")
    variance = mean(np.square(truth), weights) - np.square(mean(truth, weights))
    error = mean(np.square(truth - answers), weights)
    enough = variance > 1e-12 * float(np.square(truth).max(initial=0.0))
    share: np.ndarray = np.where(enough, np.maximum(0.0, 1 - error / np.where(enough, variance, 1.0)), 0.0)[()]
    return share


def accuracy(truth: np.ndarray, answers: np.ndarray, weights: Any = None) -> np.ndarray:
    """Share of right answers."""
    return mean(np.asarray(truth) == np.asarray(answers), weights)


def balanced_accuracy(truth: np.ndarray, answers: np.ndarray, weights: Any = None) -> np.ndarray:
    """Mean over the classes of `truth` of the share of right answers: 1/k for k classes by guessing."""
    truth, right = np.asarray(truth), np.asarray(truth) == np.asarray(answers)
    w = _weights(weights, len(truth))
    with np.errstate(invalid="ignore"):
        recalls = [w @ (right & (truth == c)) / (w @ (truth == c)) for c in np.unique(truth)]
    return np.mean(recalls, axis=0)


def majority_rate(truth: np.ndarray, weights: Any = None) -> np.ndarray:
    """Accuracy of always answering the commonest class."""
    truth = np.asarray(truth)
    w = _weights(weights, len(truth))
    return np.max([w @ (truth == c) for c in np.unique(truth)], axis=0) / w.sum(axis=-1)


def above_majority(truth: np.ndarray, share: np.ndarray, weights: Any = None) -> np.ndarray:
    """Which part of the way from always answering the commonest class to always being right an accuracy is, in [0, 1]."""
    usual = majority_rate(truth, weights)
    room = 1 - usual
    part: np.ndarray = np.where(room > 1e-9, np.maximum(0.0, (share - usual) / np.where(room > 1e-9, room, 1.0)), 0.0)[()]
    return part


def snr(truth: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Signal-to-noise ratio of reconstructed signals `[n, ...]` in decibels, per example `[n]`: power of the signal over that of the error.

    From 0, which silence gets, to 60, which nobody hears the difference of.
    """
    axes = tuple(range(1, truth.ndim))
    power = np.square(truth.astype("float64")).sum(axis=axes)
    error = np.square(truth.astype("float64") - answers).sum(axis=axes)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10 * np.log10(power / error)
    found: np.ndarray = np.clip(np.where(error == 0, SNR_CAP, np.where(power == 0, 0.0, ratio)), 0.0, SNR_CAP)
    return found


def spectral_distance(truth: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Log-spectral distance of signals `[n, time, channels]` in decibels, per example `[n]`: 0 for a copy.

    The root mean square, over frequencies, of the difference of the power spectra in decibels, averaged over frames of 256 samples (all
    there are, where they are fewer), half of which overlap, and over channels. Power under 40 dB below the signal's mean counts as that.

    References:
        Gray and Markel, "Distance Measures for Speech Processing", IEEE Transactions on Acoustics, Speech, and Signal Processing 1976.
    """
    found = [_spectral(truth[i : i + _FEW], answers[i : i + _FEW]) for i in range(0, len(truth), _FEW)]
    return np.concatenate(found)


def _spectral(truth: np.ndarray, answers: np.ndarray) -> np.ndarray:
    spectra = [_spectra(signal.astype("float64")) for signal in (truth, answers)]
    least = 1e-4 * spectra[0].mean(axis=(1, 2, 3), keepdims=True) + 1e-12
    levels = [10 * np.log10(np.maximum(power, least)) for power in spectra]
    return np.sqrt(np.square(levels[0] - levels[1]).mean(axis=3)).mean(axis=(1, 2))


def _spectra(signals: np.ndarray) -> np.ndarray:
    """Power `[n, frames, channels, frequencies]`."""
    width = min(_FRAME, signals.shape[1])
    frames = np.lib.stride_tricks.sliding_window_view(signals, width, axis=1)[:, :: max(1, width // 2)]
    spectra: np.ndarray = np.square(np.abs(np.fft.rfft(frames * np.hanning(width + 2)[1:-1], axis=3)))
    return spectra


def auc(truth: np.ndarray, scores: np.ndarray, weights: Any = None) -> np.ndarray:
    """Area under the ROC curve: the probability that a positive example scores above a negative one, ties counting half.

    Args:
        truth: `[n]`, true for positive examples.
        scores: `[n]`, higher for positive.
        weights: `[..., n]`, or None.

    References:
        Hanley and McNeil, "The Meaning and Use of the Area under a Receiver Operating Characteristic Curve", Radiology 1982.
    """
    positive, negative = _by_threshold(truth, scores, weights)
    below = np.cumsum(negative, axis=-1) - negative
    with np.errstate(invalid="ignore"):
        return np.sum(positive * (below + negative / 2), axis=-1) / (positive.sum(axis=-1) * negative.sum(axis=-1))


def advantage(truth: np.ndarray, scores: np.ndarray, weights: Any = None) -> np.ndarray:
    """Largest difference of true and false positive rate over all thresholds, in [0, 1]; the threshold is chosen on these examples.

    References:
        Yeom, Giacomelli, Fredrikson, Jha, "Privacy Risk in Machine Learning", CSF 2018.
    """
    positive, negative = _by_threshold(truth, scores, weights)
    with np.errstate(invalid="ignore"):
        missed = np.cumsum(positive, axis=-1) / positive.sum(axis=-1, keepdims=True)
        spared = np.cumsum(negative, axis=-1) / negative.sum(axis=-1, keepdims=True)
    return np.maximum(0.0, np.max(spared - missed, axis=-1))


def tpr_at_fpr(truth: np.ndarray, scores: np.ndarray, weights: Any = None) -> np.ndarray:
    """Largest true positive rate over the thresholds whose false positive rate is at most 1 %: what an attacker knows almost for sure.

    References:
        Carlini, Chien, Nasr, Song, Terzis, Tramer, "Membership Inference Attacks From First Principles", S&P 2022.
    """
    positive, negative = _by_threshold(truth, scores, weights)
    with np.errstate(invalid="ignore"):
        found = np.cumsum(positive[..., ::-1], axis=-1) / positive.sum(axis=-1, keepdims=True)
        false = np.cumsum(negative[..., ::-1], axis=-1) / negative.sum(axis=-1, keepdims=True)
    rate = np.max(np.where(false <= FALSE_POSITIVES + 1e-12, found, 0.0), axis=-1)
    return np.where(np.isnan(found[..., -1]) | np.isnan(false[..., -1]), np.nan, rate)


def roc(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The ROC curve from (0, 0) to (1, 1): false and true positive rate at every threshold, `[points, 2]`; both classes must be there."""
    positive, negative = _by_threshold(truth, scores, None)
    rates = [np.cumsum(w[::-1]) / w.sum() for w in (negative, positive)]
    return np.concatenate([np.zeros((1, 2)), np.stack(rates, axis=1)])


def _weights(weights: Any, count: int) -> np.ndarray:
    return np.ones(count) if weights is None else np.asarray(weights, "float64")


def _by_threshold(truth: np.ndarray, scores: np.ndarray, weights: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the positive and of the negative examples at every distinct score, ascending, `[..., distinct]`."""
    truth, scores = np.asarray(truth, bool), np.asarray(scores)
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    w = _weights(weights, len(truth))[..., order]
    return np.add.reduceat(w * truth[order], starts, axis=-1), np.add.reduceat(w * ~truth[order], starts, axis=-1)
