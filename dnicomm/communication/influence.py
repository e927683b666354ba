"""What a message does to a listener that reads it, everything else held still.

A listener's *policy* is how likely each of its actions is; policies come as logarithms, ``[…, A]``.
``forced`` stands for K messages put into the same situation, one after another. Everything in nats.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

Values = NDArray[np.float64]
DRAWS = 16  # for each Gaussian


def causal_influence(forced: ArrayLike, weights: ArrayLike | None = None) -> Values:
    """Causal influence of communication in each situation, ``[S]`` (Lowe et al., 2019).

    ``Σ_m p(m) Σ_a p(a | do(m), s) ln( p(a | do(m), s) / p(a | s) )``, with the listener's marginal
    ``p(a | s) = Σ_m p(m) p(a | do(m), s)``: a sum weighted by how likely messages are. (A plain
    mean over messages weighted already would add ln K to every value.) A listener that ignores
    messages gets 0, one that copies K equally likely ones ln K.

    Args:
        forced: ``[S, K, A]`` logarithms of the policy under each message.
        weights: ``[K]`` or ``[S, K]`` how likely each message is; None: equally.
    """
    log_policy = np.asarray(forced, dtype=np.float64)
    log_weight = _log_weights(weights, log_policy.shape[:2])
    log_marginal = logsumexp(log_policy + log_weight[..., None], axis=1, keepdims=True)
    divergence = kl_divergence(log_policy, log_marginal)  # [S, K]
    return _mean(log_weight, divergence, ignored=_all_equal(log_policy))


def kl_divergence(p: ArrayLike, q: ArrayLike) -> Values:
    """Kullback-Leibler divergence ``[…]`` of policies ``[…, A]``, logarithms; it may be infinite.

    ``KL(p || q)``: how far ``q`` is from what was done.
    """
    log_p, log_q = (np.asarray(x, dtype=np.float64) for x in (p, q))
    with np.errstate(invalid="ignore"):  # -inf less -inf, where p is zero
        terms = np.where(np.isneginf(log_p), 0.0, np.exp(log_p) * (log_p - log_q))
    return terms.sum(-1).clip(min=0.0)


def l1_distance(p: ArrayLike, q: ArrayLike) -> Values:
    """``Σ_a |p(a) - q(a)|`` of policies ``[…, A]``, logarithms: from 0 to 2."""
    found: Values = np.abs(np.exp(np.asarray(p)) - np.exp(np.asarray(q))).sum(-1)
    return found


# -- continuous actions ---------------------------------------------------------------------------


def gaussian_causal_influence(
    mean: ArrayLike,
    log_std: ArrayLike,
    rng: np.random.Generator,
    weights: ArrayLike | None = None,
    draws: int = DRAWS,
) -> Values:
    """:func:`causal_influence` of a listener with a Gaussian policy, ``[S]``.

    The marginal is a mixture of Gaussians; the mean of the logarithm is taken over ``draws`` from
    each.

    Args:
        mean: ``[S, K, A]`` under each forced message.
        log_std: ``[S, K, A]``, logarithms of standard deviations, nats.
    """
    mean, log_std = (np.asarray(x, dtype=np.float64) for x in (mean, log_std))
    log_weight = _log_weights(weights, mean.shape[:2])
    noise = rng.standard_normal((draws, 1, *mean.shape[2:]))
    gain = np.zeros(mean.shape[:2])  # [S, K]
    for k in range(mean.shape[1]):
        action = mean[:, k] + np.exp(log_std[:, k]) * noise  # [draws, S, A]
        log_density = gaussian_log_density(action[:, :, None], mean, log_std)  # [draws, S, K]
        log_marginal = logsumexp(log_density + log_weight, axis=-1)  # [draws, S]
        gain[:, k] = (log_density[..., k] - log_marginal).mean(0)
    ignored = _all_equal(mean) & _all_equal(log_std)
    return _mean(log_weight, gain, ignored)


def gaussian_log_density(action: Values, mean: Values, log_std: Values) -> Values:
    """Logarithm of the density ``[…]`` of actions ``[…, A]``."""
    distance = (action - mean) * np.exp(-log_std)
    found: Values = (-0.5 * (distance**2 + math.log(2 * math.pi)) - log_std).sum(-1)
    return found


def gaussian_kl_divergence(
    mean_p: ArrayLike, log_std_p: ArrayLike, mean_q: ArrayLike, log_std_q: ArrayLike
) -> Values:
    """``KL(p || q)`` ``[…]`` of Gaussian policies ``[…, A]``."""
    m_p, s_p, m_q, s_q = (
        np.asarray(x, dtype=np.float64) for x in (mean_p, log_std_p, mean_q, log_std_q)
    )
    terms = s_q - s_p + 0.5 * (np.exp(2 * (s_p - s_q)) + ((m_p - m_q) * np.exp(-s_q)) ** 2 - 1)
    return terms.sum(-1).clip(min=0.0)


def gaussian_l1_distance(
    mean_p: Values,
    log_std_p: Values,
    mean_q: Values,
    log_std_q: Values,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Values:
    """``∫ |p - q|`` ``[…]`` of Gaussian policies ``[…, A]``: from 0 to 2.

    A mean over draws from both, ``2 |p - q| / (p + q)``, which is exactly 0 where they are equal.
    """
    noise = rng.standard_normal((draws, *mean_p.shape))
    total: Any = 0.0
    for mean, log_std in ((mean_p, log_std_p), (mean_q, log_std_q)):
        action = mean + np.exp(log_std) * noise
        log_p = gaussian_log_density(action, mean_p, log_std_p)
        log_q = gaussian_log_density(action, mean_q, log_std_q)
        total = total + np.abs(np.tanh((log_p - log_q) / 2)).mean(0)
    return np.asarray(total, dtype=np.float64)


def _log_weights(weights: ArrayLike | None, shape: tuple[int, ...]) -> Values:
    """Logarithms of the weights ``[S, K]`` of forced messages, which then sum to 1."""
    if weights is None:
        return np.full(shape, -math.log(shape[1]))
    values = np.broadcast_to(np.asarray(weights, dtype=np.float64), shape)
    if (values < 0).any() or not (values.sum(1) > 0).all():
        raise ValueError("weights of messages must not be negative, nor all zero")
    with np.errstate(divide="ignore"):
        found: Values = np.log(values / values.sum(1, keepdims=True))
    return found


def _mean(log_weight: Values, values: Values, ignored: NDArray[np.bool_]) -> Values:
    """Mean over messages ``[S]``, exactly 0 where they are ignored and at least 0 elsewhere.

    What never comes counts nothing, be it infinite.
    """
    weight = np.exp(log_weight)
    found = (weight * np.where(weight > 0, values, 0.0)).sum(1)
    return np.where(ignored, 0.0, found.clip(min=0.0))


def _all_equal(values: Values) -> NDArray[np.bool_]:
    """Situations ``[S]`` in which all K messages do the same, ``[S, K, A]``."""
    return np.asarray((values == values[:, :1]).all((1, 2)))
