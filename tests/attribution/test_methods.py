"""A method is one dataclass and one line: what the registry holds, and a method of one's own."""

import dataclasses
import inspect
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import seqscope as sq
from seqscope.attribution import METHODS, Explained, Method, Run

NAMES = [
    "gradient",
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "expected_gradients",
    "smooth_grad",
    "cam",
    "grad_cam",
    "grad_cam_pp",
    "layer_cam",
    "score_cam",
    "instances",
    "attention_pooling",
    "occlusion",
    "feature_ablation",
    "temporal_saliency_rescaling",
]


def test_the_methods_are_these():
    assert list(METHODS) == NAMES


@pytest.mark.parametrize("kind", METHODS.values(), ids=METHODS)
def test_each_is_a_frozen_dataclass_with_its_source_and_a_call(kind):
    made = kind()
    assert kind.name in NAMES
    assert hash(made) == hash(kind())
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        made.name = "other"
    said = inspect.getdoc(kind)
    assert "References" in said
    assert f'"{kind.name}"' in said
    for part in dataclasses.fields(kind):
        assert f"{part.name} :" in said or f"\n{part.name}\n" in said, part.name


@dataclass(frozen=True)
class Halves(Method):
    """How far the score falls where the first half of the steps is left at the baseline; a method of one's own."""

    name: ClassVar[str] = "halves"
    needs_gradient: ClassVar[bool] = False

    def explain(self, run: Run) -> Explained:
        """The same for all values of the first half."""
        half = run.x.shape[1] // 2
        total = np.zeros(run.x.shape)
        for rows in run.rows():
            x = run.x[rows.sample].copy()
            x[:, :half] = 0
            total[rows.sample, :half] = (run.scores_at_x()[rows.sample] - run.scores(x, rows))[:, None, None]
        return Explained(total)


def test_a_method_of_ones_own_goes_the_same_way():
    X, _ = sq.datasets.japanese_vowels("test")
    scope = sq.Scope(sq.zoo.japanese_vowels())
    found = scope.attribute(X[:6], Halves())
    assert found.attrs["method"] == "halves"
    x = X[0].values.copy()
    x[: len(x) // 2] = 0
    cut = scope.attribute(sq.Sequences([x]), "gradient", target=int(str(found.target.values[0])) - 1).score
    np.testing.assert_allclose(found[0, 0, 0], found.score[0] - cut[0], rtol=1e-4)
    assert np.isnan(found.isel(sample=0, time=slice(int(X.lengths[0]), None))).all()
