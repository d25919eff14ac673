"""Attribution: which values of the input, or of a layer, a score rests on.

`scope.attribute(X, method)` takes a method by its name or as one of these dataclasses, whose fields are its options. A new method is one
dataclass and one line in `METHODS`.
"""

from __future__ import annotations

from typing import Any

from seqscope.attribution.bridge import Captum, captum
from seqscope.attribution.cam import CAM, GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM
from seqscope.attribution.gradients import ExpectedGradients, Gradient, InputXGradient, IntegratedGradients, Saliency, SmoothGrad
from seqscope.attribution.heads import AttentionPooling, Instances
from seqscope.attribution.method import Explained, Method
from seqscope.attribution.perturbation import FeatureAblation, Occlusion
from seqscope.attribution.run import Rows, Run, Slope
from seqscope.attribution.temporal import TemporalSaliencyRescaling

__all__ = [
    "CAM",
    "METHODS",
    "AttentionPooling",
    "Captum",
    "ExpectedGradients",
    "Explained",
    "FeatureAblation",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "InputXGradient",
    "Instances",
    "IntegratedGradients",
    "LayerCAM",
    "Method",
    "Occlusion",
    "Rows",
    "Run",
    "Saliency",
    "ScoreCAM",
    "Slope",
    "SmoothGrad",
    "TemporalSaliencyRescaling",
    "captum",
]

# Every method by its name.
METHODS: dict[str, Any] = {
    method.name: method
    for method in (
        Gradient,
        Saliency,
        InputXGradient,
        IntegratedGradients,
        ExpectedGradients,
        SmoothGrad,
        CAM,
        GradCAM,
        GradCAMPlusPlus,
        LayerCAM,
        ScoreCAM,
        Instances,
        AttentionPooling,
        Occlusion,
        FeatureAblation,
        TemporalSaliencyRescaling,
    )
}
