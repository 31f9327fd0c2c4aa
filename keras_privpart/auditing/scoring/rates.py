"""How many bits a boundary lets through: formulas on arrays, and what bits mean for an attacker who names one of many.

All are in units of the noise: `rows` are what crosses without its noise, `[n, numbers]`, each number divided by its noise's standard
deviation, so that the noise is standard normal. The mean of k looks has k times less variance of noise: multiply by `sqrt(k)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, logsumexp

RESAMPLES, FEWER = 200, 40  # for up to _NARROW numbers, and for more
_NARROW = 128
_ELEMENTS = 4_000_000  # of a distance table held at a time


@dataclass(frozen=True)
class Estimate:
    """A number of bits and its 95 % interval."""

    value: float
    low: float
    high: float


def capacity(power: float, stddev: np.ndarray) -> float:
    """The most bits that Gaussian noise lets through of z whose mean square per number is at most `power`, whatever the inputs.

    `(m/2) log2(1 + power / s^2)` for m numbers with the same noise; with noise of several sizes the power is spread as well as it can be
    ("water filling").

    Args:
        power: limit on `mean(z^2)`.
        stddev: of the noise of each number, `[m]`, above 0.

    References:
        Cover, Thomas, "Elements of Information Theory", 2nd edition, 2006, chapter 9.
    """
    noise = np.sort(np.square(np.asarray(stddev, "float64")))
    # The level that fills the k quietest numbers with all of the power; the largest k whose numbers all lie below their level.
    levels = (power * len(noise) + np.cumsum(noise)) / np.arange(1, len(noise) + 1)
    filled = int(np.flatnonzero(levels >= noise)[-1]) + 1
    return float(np.log2(levels[filled - 1] / noise[:filled]).sum() / 2)


def gaussian_rate(rows: np.ndarray, weights: np.ndarray | None = None, lost: int = 1) -> float:
    """`log2 det(I + C) / 2`, C the covariance of centred `rows` `[n, numbers]`: no inputs whose z has this covariance carry more bits.

    Args:
        rows: centred, in units of the noise.
        weights: how often each row counts, `[n]`; once by default.
        lost: degrees of freedom that centring took: 1 for one mean, as many as there are classes for class means.
    """
    rows = np.asarray(rows, "float64")
    count = float(len(rows) if weights is None else weights.sum())
    scaled = rows / math.sqrt(max(count - lost, 1.0))
    if weights is not None:
        kept = weights > 0
        scaled = scaled[kept] * np.sqrt(weights[kept])[:, None]
    # The same determinant from the smaller of the two products.
    small = scaled.T @ scaled if scaled.shape[1] <= scaled.shape[0] else scaled @ scaled.T
    return float(np.linalg.slogdet(np.eye(len(small)) + small)[1] / (2 * math.log(2)))


def separate_rate(rows: np.ndarray, weights: np.ndarray | None = None, lost: int = 1) -> float:
    """As `gaussian_rate`, but from the variances alone, each number by itself: never lower (Hadamard), and few rows suffice for it."""
    rows = np.asarray(rows, "float64")
    weights = np.ones(len(rows)) if weights is None else weights
    variances = weights @ np.square(rows) / max(float(weights.sum()) - lost, 1.0)
    return float(np.log1p(variances).sum() / (2 * math.log(2)))


def centred(rows: np.ndarray, labels: np.ndarray | None = None, weights: np.ndarray | None = None) -> np.ndarray:
    """`rows` less their mean, or less the mean of their class where there are `labels` `[n]`."""
    rows = np.asarray(rows, "float64")
    groups = np.zeros(len(rows), int) if labels is None else np.unique(labels, return_inverse=True)[1].reshape(-1)
    weights = np.ones(len(rows)) if weights is None else weights
    one_hot = np.eye(groups.max() + 1)[groups] * weights[:, None]
    means = one_hot.T @ rows / np.maximum(one_hot.sum(axis=0), 1.0)[:, None]
    return rows - means[groups]


def covariance_bound(rows: np.ndarray, labels: np.ndarray | None = None, looks: int = 1, seed: int = 0) -> Estimate:
    """Bits that cross, at most: `gaussian_rate` of the covariance of `rows`; with `labels`, of that within classes: bits beyond the class.

    Of all distributions with a covariance the Gaussian has the largest entropy, and the rate is concave in the covariance, so that the
    covariance pooled over classes bounds the mean over classes. A covariance from n rows gives too small a rate, on average: the bootstrap
    (over rows) tells by how much, which is put right, and the interval is the basic one. With fewer than four rows per number a covariance
    tells nothing, and `separate_rate` is taken in its place.

    Args:
        rows: `[n, numbers]`, in units of the noise.
        labels: class of each row `[n]`.
        looks: independent looks at one input.
        seed: of the resamples.
    """
    rows = np.asarray(rows, "float64") * math.sqrt(looks)
    lost = 1 if labels is None else len(np.unique(labels))

    formula = gaussian_rate if enough(rows) else separate_rate

    def rate(weights: np.ndarray | None) -> float:
        return formula(centred(rows, labels, weights), weights, lost)

    plain, rng, count = rate(None), np.random.default_rng(seed), len(rows)
    resamples = RESAMPLES if rows.shape[1] <= _NARROW else FEWER
    drawn = np.array([rate(rng.multinomial(count, np.full(count, 1 / count)).astype("float64")) for _ in range(resamples)])
    low, high = np.percentile(drawn, [2.5, 97.5])
    value, low, high = (max(0.0, float(2 * plain - v)) for v in (drawn.mean(), high, low))
    return Estimate(value, low, high)


def enough(rows: np.ndarray) -> bool:
    """Whether `rows` `[n, numbers]` suffice for a covariance."""
    return len(rows) >= 4 * rows.shape[1]


def contrastive_bound(seen: np.ndarray, rows: np.ndarray, own: np.ndarray, groups: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Bits that cross, at least (InfoNCE with the channel's true likelihood), of every victim, and the most that it can say.

    The mean over victims of `log2(p(z | x) / mean_j p(z | x_j))`, over candidates x_j with the victim's own among them, is never above
    the mutual information, nor above log2 of the number of candidates, on average.

    Args:
        seen: what crossed of each victim, noise included, `[victims, numbers]`, in units of the noise.
        rows: what would cross of each candidate without noise, `[candidates, numbers]`, in the same units.
        own: which candidate each victim is, `[victims]`.
        groups: class of each candidate: then a victim's candidates are those of its class, and the bits those beyond the class.

    Returns:
        Bits of each victim `[victims]`, and the mean of log2 of how many candidates it had.

    References:
        Van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", arXiv 1807.03748, 2018.
        Poole et al., "On Variational Bounds of Mutual Information", ICML 2019 (with a known conditional distribution).
    """
    groups = np.zeros(len(rows), int) if groups is None else np.asarray(groups)
    bits, most = np.zeros(len(seen)), np.zeros(len(seen))
    for group in np.unique(groups[own]):
        candidates, victims = np.flatnonzero(groups == group), np.flatnonzero(groups[own] == group)
        place = np.searchsorted(candidates, own[victims])
        step = max(1, _ELEMENTS // len(candidates))
        for i in range(0, len(victims), step):
            chosen, among = victims[i : i + step], place[i : i + step]
            log_likelihood = -_squared_distances(seen[chosen], rows[candidates]) / 2
            right = log_likelihood[np.arange(len(chosen)), among]
            bits[chosen] = (right - logsumexp(log_likelihood, axis=1)) / math.log(2) + math.log2(len(candidates))
        most[victims] = math.log2(len(candidates))
    return bits, float(most.mean())


def collision_bound(rows: np.ndarray, own: np.ndarray, groups: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """The same for a boundary without noise: log2 of how many candidates there are for each that would send the very same.

    Args:
        rows: what crosses of each candidate, `[candidates, numbers]`.
        own, groups: as for `contrastive_bound`.

    Returns:
        As `contrastive_bound`.
    """
    groups = np.zeros(len(rows), int) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    alike = np.unique(np.column_stack([groups, rows]), axis=0, return_inverse=True)[1].reshape(-1)
    most = np.log2(np.bincount(groups)[groups[own]])
    return most - np.log2(np.bincount(alike)[alike[own]]), float(most.mean())


def mean_estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """The mean of `values` `[n]` with the percentile interval of a bootstrap."""
    rng, count = np.random.default_rng(seed), len(values)
    drawn = [float(rng.multinomial(count, np.full(count, 1 / count)) @ values) / count for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def fano(bits: float, candidates: int) -> float:
    """How often, at most, one of `candidates` equally likely inputs is named rightly from `bits`: `(bits + 1) / log2 N`, up to 1.

    References:
        Cover, Thomas, "Elements of Information Theory", 2nd edition, 2006, section 2.10 (Fano's inequality).
    """
    return min(1.0, (bits + 1) / math.log2(candidates))


def local_privacy(sensitivity: float, delta: float) -> float:
    """Epsilon of standard normal noise on z, two of which are `sensitivity` apart at most: the analytic Gaussian mechanism.

    The smallest epsilon with `Phi(d/2 - e/d) - exp(e) Phi(-d/2 - e/d) <= delta`, d the sensitivity in units of the noise.

    References:
        Balle, Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018.
    """

    def log_excess(epsilon: float) -> float:
        first, second = log_ndtr(sensitivity / 2 - epsilon / sensitivity), epsilon + log_ndtr(-sensitivity / 2 - epsilon / sensitivity)
        return float(first + np.log1p(-np.exp(min(second - first, -1e-15)))) - math.log(delta)

    if sensitivity <= 0 or log_excess(0.0) <= 0:
        return 0.0
    top = 1.0
    while log_excess(top) > 0:
        top *= 2
    return float(brentq(log_excess, 0.0, top))


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
    return np.maximum(np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T, 0.0)
