"""The heads' equations in float64, step by step and sample by sample: what is independent of how they are computed."""

import numpy as np

HEADS = ("InstancePooling", "AttentionPooling", "AdditivePooling", "ConjunctivePooling")


def reference(head, weights, z, *, attention, there=None):
    """What a head says of its features.

    Parameters
    ----------
    weights : dict
        `hidden` (feature, unit), `hidden_bias`, `score` (unit), `score_bias`, `classifier` (feature, output), `classifier_bias`.
    z : array (sample, time, feature)
    there : bool array (sample, time), optional

    Returns
    -------
    logits (sample, output), evidence (sample, time, output), attention weights (sample, time)
    """
    W, b = weights["classifier"], weights["classifier_bias"]
    logits = np.zeros((len(z), len(b)))
    evidence, a = np.zeros((*z.shape[:2], len(b))), np.zeros(z.shape[:2])
    for sample in range(len(z)):
        steps = [t for t in range(z.shape[1]) if there is None or there[sample, t]]
        n = len(steps)
        if head != "InstancePooling":
            scores = {t: np.tanh(z[sample, t] @ weights["hidden"] + weights["hidden_bias"]) @ weights["score"] for t in steps}
            total = sum(np.exp(score) for score in scores.values())
            for t in steps:
                a[sample, t] = np.exp(scores[t]) / total if attention == "softmax" else 1 / (1 + np.exp(-scores[t] - weights["score_bias"]))
        in_sum = 1 if attention == "softmax" else 1 / n  # a sum of weights that sum to 1, else a mean
        if head == "InstancePooling":
            logits[sample] = np.mean([z[sample, t] @ W + b for t in steps], axis=0)
        elif head == "AttentionPooling":
            logits[sample] = in_sum * sum(a[sample, t] * z[sample, t] for t in steps) @ W + b
        elif head == "ConjunctivePooling":
            logits[sample] = in_sum * sum(a[sample, t] * (z[sample, t] @ W + b) for t in steps)
        else:
            logits[sample] = in_sum * sum((a[sample, t] * z[sample, t]) @ W for t in steps) + b
        for t in steps:
            if head == "InstancePooling":
                evidence[sample, t] = (z[sample, t] @ W + b) / n
            elif head == "ConjunctivePooling":
                evidence[sample, t] = in_sum * a[sample, t] * (z[sample, t] @ W + b)
            else:
                evidence[sample, t] = in_sum * a[sample, t] * (z[sample, t] @ W) + b / n
    return logits, evidence, a


def some_weights(n_features=6, n_units=4, n_outputs=3, seed=0):
    """Weights that are far from 0, so that the scores of the steps differ."""
    random = np.random.default_rng(seed)
    shapes = {"hidden": (n_features, n_units), "hidden_bias": (n_units,), "score": (n_units,), "score_bias": ()}
    shapes |= {"classifier": (n_features, n_outputs), "classifier_bias": (n_outputs,)}
    return {name: random.standard_normal(shape) for name, shape in shapes.items()}
