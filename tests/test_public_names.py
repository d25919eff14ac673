"""The public names, pinned: to add or to take away one is a decision, and this is where it shows."""

import importlib
import inspect

import pytest

import seqscope

PUBLIC = {
    "seqscope": [
        "Layer",
        "Layers",
        "Scope",
        "Sequences",
        "__version__",
        "attribution",
        "datasets",
        "errors",
        "explore",
        "nn",
        "open",
        "plot",
        "read",
        "target",
        "units",
        "zoo",
    ],
    "seqscope.plot": [
        "Text",
        "activations",
        "attention",
        "attribution",
        "attribution_mass",
        "class_attribution",
        "compare_attributions",
        "filters",
        "heatmap",
        "layers",
        "limits",
        "memory",
        "prototype",
        "series",
        "states",
        "text",
        "top_windows",
        "trajectories",
        "units",
    ],
    "seqscope.nn": ["keras", "torch"],
    "seqscope.nn.keras": ["AdditivePooling", "AttentionPooling", "ConjunctivePooling", "InstancePooling", "PoolingHead"],
    "seqscope.nn.torch": ["AdditivePooling", "AttentionPooling", "ConjunctivePooling", "InstancePooling", "PoolingHead"],
    "seqscope.attribution": [
        "AttentionPooling",
        "CAM",
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
        "METHODS",
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
    ],
    "seqscope.target": ["Output", "Unit", "output", "unit"],
    "seqscope.datasets": ["japanese_vowels", "planted", "shakespeare"],
    "seqscope.zoo": ["attention_lstm", "char_lstm", "conv_mil", "japanese_vowels"],
}

ERRORS = {
    "SeqscopeError": (Exception,),
    "DataError": (seqscope.errors.SeqscopeError, ValueError),
    "SampleError": (seqscope.errors.SeqscopeError, IndexError),
    "ModelError": (seqscope.errors.SeqscopeError, ValueError),
    "LayerError": (seqscope.errors.SeqscopeError, LookupError),
    "UnsupportedError": (seqscope.errors.SeqscopeError,),
    "TooLargeError": (seqscope.errors.SeqscopeError,),
    "OutputExistsError": (seqscope.errors.SeqscopeError, FileExistsError),
    "BusyError": (seqscope.errors.SeqscopeError,),
    "MissingPackageError": (seqscope.errors.SeqscopeError, ImportError),
}


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_these(module):
    assert sorted(importlib.import_module(module).__all__) == PUBLIC[module]


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in PUBLIC.items() for name in names])
def test_every_public_name_is_there_and_documented(module, name):
    value = getattr(importlib.import_module(module), name)
    assert isinstance(value, str) or inspect.getdoc(value)


def test_the_errors_are_these():
    raised = {
        name: error.__bases__
        for name, error in vars(seqscope.errors).items()
        if inspect.isclass(error) and issubclass(error, Exception) and error.__module__ == "seqscope.errors"
    }
    assert raised == ERRORS


def test_tab_completion_shows_the_public_names():
    assert sorted(dir(seqscope)) == PUBLIC["seqscope"]


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'seqscope' has no attribute 'scope_'"):
        seqscope.scope_  # noqa: B018


def parameters(function):
    """Names of the parameters that go by position, and of those that go by keyword alone."""
    listed = inspect.signature(function).parameters.values()
    return [p.name for p in listed if p.kind is not p.KEYWORD_ONLY], [p.name for p in listed if p.kind is p.KEYWORD_ONLY]


def test_what_people_type_for_their_data():
    by_position, by_keyword = parameters(seqscope.Sequences)
    assert by_position == ["data"]
    assert by_keyword == ["lengths", "channels", "samples", "labels", "outputs", "time", "rate", "time_units", "layout"]


def test_what_people_type_for_their_files():
    assert parameters(seqscope.read) == (["source"], ["x", "y", "layout", "sample", "time", "label", "most", "keep"])


def test_what_people_type_for_their_model():
    assert parameters(seqscope.Scope) == (
        ["model"],
        ["weights", "factory", "trust", "custom_objects", "outputs", "layout", "example", "call"],
    )
    assert parameters(seqscope.Scope.predict) == (["self", "X"], ["batch_size", "progress"])
    assert parameters(seqscope.Scope.activations) == (["self", "X", "layers"], ["batch_size", "progress"])
    assert parameters(seqscope.Scope.filters) == (["self", "layer"], ["channels"])
