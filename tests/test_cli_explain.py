"""`seqscope explain` as a person types it, in this process, and the files that it writes."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import commands
import seqscope as sq

VOWELS = ("explain", "japanese_vowels", "japanese_vowels")


@pytest.fixture
def typed(tmp_path, monkeypatch, capfd):
    """A command typed in an empty folder: its exit code, and what it wrote on standard error."""
    run = commands.typed_in(tmp_path, monkeypatch, capfd)
    return lambda *arguments: run(*arguments)[::2]


def test_one_sample_is_written_and_drawn(typed, tmp_path):
    code, said = typed(*VOWELS, "--sample", 3, "--target", 1, "-o", "why.nc", "-o", "why.png", "-o", "why.csv")
    assert code == 0, said
    assert "integrated_gradients (sample 1, time 18, channel 12) written to why.nc" in said
    assert "Sample 3 drawn in why.png" in said
    X, _ = sq.datasets.japanese_vowels("test")
    with pytest.warns(UserWarning, match="below chance"):
        expected = sq.Scope(sq.zoo.japanese_vowels()).attribute(X[[3]], "integrated_gradients", target=1)
    with xr.open_dataarray(tmp_path / "why.nc") as found:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
        assert found.attrs["score"] == "logit"
        assert found.target.item() == "2"
    table = pd.read_csv(tmp_path / "why.csv")
    assert len(table) == 18 * 12
    np.testing.assert_allclose(table["attribution"], expected.values.ravel(), rtol=1e-6, atol=1e-7)
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    assert "Warning: For 1 of 1 sequences the target's probability is below chance" in said
    assert ".py" not in said  # a warning is a sentence, without its place in the code


def test_options_reach_the_method(typed, tmp_path):
    code, said = typed(*VOWELS, "--sample", 0, "--method", "occlusion", "--option", "window=4", "--option", "channels=all", "-o", "o.nc")
    assert code == 0, said
    with xr.open_dataarray(tmp_path / "o.nc") as found:
        assert "window=4" in found.attrs["options"]
        assert float(found.std("channel").max()) == 0  # all channels are hidden together
    assert typed(*VOWELS, "--sample", 0, "--option", "steps", "-o", "p.nc")[0] == 2
    code, said = typed(*VOWELS, "--sample", 0, "--option", "window=2", "-o", "p.nc")
    assert code == 1
    assert "integrated_gradients has no option 'window'" in said


def test_maps_are_drawn_and_written(typed, tmp_path):
    code, said = typed(*VOWELS, "--sample", 0, "--method", "grad_cam", "-o", "map.png", "-o", "map.csv", "--style", "bars")
    assert code == 0, said
    assert {"map", "native", "score", "time"} <= set(pd.read_csv(tmp_path / "map.csv"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--method", "grad_cm"), "There is no method 'grad_cm': the nearest are 'grad_cam'"),
        (("--target", 12), "There is no output 12: the model has 9, at positions 0 to 8"),
        (("--target", "anna"), "There is no output named 'anna'"),
        (("--sample", 370), "There is no sample 370"),
        (("--baseline", "zeros"), "There is no baseline 'zeros': the nearest is 'zero'"),
        (("--layer", "lst"), "No layer is named 'lst': the nearest is 'lstm'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_file(typed, tmp_path, arguments, sentence):
    code, said = typed(*VOWELS, *arguments, "-o", "x.nc", "-o", "x.png")
    assert code == 1
    assert sentence in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_files_are_seen_to_before_the_work(typed, tmp_path):
    (tmp_path / "there.nc").write_bytes(b"")
    assert "exists" in typed(*VOWELS, "-o", "there.nc")[1]
    assert "expected an ending" in typed(*VOWELS, "-o", "why.doc")[1]
    code, said = typed(*VOWELS, "--sample", 0, "--layer", "lstm", "--method", "gradient", "-o", "layer.png")
    assert code == 1
    assert "A picture shows an attribution on the input" in said
