import re

import numpy as np
import pytest

from seqscope import datasets
from seqscope.errors import DataError


@pytest.fixture(scope="module", params=["train", "test"])
def part(request):
    return request.param, *datasets.japanese_vowels(request.param)


def test_sizes_are_the_published_ones(part):
    name, X, y = part
    n_samples, n_steps, longest = {"train": (270, 4274, 26), "test": (370, 5687, 29)}[name]
    assert len(X) == len(y) == n_samples
    assert X.lengths.sum() == n_steps
    assert (X.lengths.min(), X.lengths.max()) == (7, longest)
    assert X.n_channels == 12


def test_utterances_per_speaker_are_the_published_ones(part):
    name, _, y = part
    counts = {"train": [30] * 9, "test": [31, 35, 88, 44, 29, 24, 40, 50, 29]}[name]
    assert [int((y == str(speaker)).sum()) for speaker in range(1, 10)] == counts
    assert list(y) == sorted(y), "the published order is by speaker"


def test_first_steps_are_those_of_the_published_files():
    """The first lines of ae.train and of ae.test in the UCI repository."""
    lines = {
        "train": "1.860936 -0.207383 0.261557 -0.214562 -0.171253 -0.118167 -0.277557 0.025668 0.126701 -0.306756 -0.213076 0.088728",
        "test": "1.635533 0.024848 0.432087 -0.361914 -0.074776 -0.693481 -0.229621 0.261503 -0.089421 -0.020431 -0.008612 0.139754",
    }
    lengths = {"train": [20, 26, 22], "test": [19, 17, 19]}
    for name, line in lines.items():
        X, _ = datasets.japanese_vowels(name)
        np.testing.assert_array_equal(X[0].values[0], [float(word) for word in line.split()])
        assert list(X.lengths[:3]) == lengths[name]


def test_an_utterance_ends_where_the_next_begins(part):
    """The first coefficient around the first seam and at the ends of the published file, and all coefficients together."""
    name, X, _ = part
    seen = [float(values[0]) for values in (X[0][0], X[0][-1], X[1][0], X[-1][0], X[-1][-1])]
    first, total = {
        "train": ([1.860936, 1.261441, 1.303905, 1.240598, 0.966744], -1057.452303),
        "test": ([1.635533, 1.388998, 1.346025, 1.421622, 1.177449], -2146.51343),
    }[name]
    assert seen == first
    assert sum(float(batch.values.sum()) for batch in X.batches(500)) == pytest.approx(total, abs=1e-6)


def test_labels_are_strings_and_equal_the_output_names(part):
    _, X, y = part
    assert y.dtype.kind == "U"
    assert X.outputs == ("1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert set(y) == set(X.outputs)
    np.testing.assert_array_equal(X.labels, y)
    assert X[-1].label.item() == y[-1]


def test_channels_are_named_features(part):
    assert part[1].channels == tuple(f"Feature {place}" for place in range(1, 13))
    assert list(part[1][0].channel.values) == list(part[1].channels)


def test_values_have_six_decimals_as_published(part):
    for batch in part[1].batches(500):
        np.testing.assert_array_equal(batch.values, np.round(batch.values, 6))


def test_the_training_part_comes_first():
    assert len(datasets.japanese_vowels()[0]) == 270


def test_each_call_gives_data_of_its_own():
    X, y = datasets.japanese_vowels("train")
    X[0].values[:] = 0.0
    y[:] = "?"
    again, labels = datasets.japanese_vowels("train")
    assert again[0].values[0, 0] == 1.860936
    assert labels[0] == "1"


@pytest.mark.parametrize(("said", "words"), [("tests", "'tests': the nearest is 'test'"), ("all", "there are 'train', 'test'"), (1, "1")])
def test_a_part_that_does_not_exist_is_refused(said, words):
    with pytest.raises(DataError) as caught:
        datasets.japanese_vowels(said)
    assert words in str(caught.value)


def test_shakespeare_is_two_plays_cut_before_the_last_act():
    train, test = datasets.shakespeare(), datasets.shakespeare("test")
    acts = [re.findall(r"^ACT (\w+)\.$", part, re.MULTILINE) for part in (train, test)]
    assert acts == [["I", "II", "III", "IV"] * 2, ["V"] * 2]
    assert (len(train), len(test)) == (181_892, 35_576)
    assert "Beware the Ides of March." in train
    assert "To-morrow, and to-morrow, and to-morrow,\nCreeps in this petty pace from day to day," in test
    assert train.startswith("ACT I.\n\nSCENE I. Rome. A street.")
    assert test.endswith("Whom we invite to see us crown'd at Scone.\n\n[Flourish. Exeunt.]\n")


def test_shakespeare_has_no_character_that_its_training_part_does_not_have():
    train, test = datasets.shakespeare("train"), datasets.shakespeare("test")
    assert len(set(train)) == 68
    assert set(test) < set(train)
    assert (train + test).isascii()
    for untidy in ("\r", "\t", " \n", "\n\n\n"):
        assert untidy not in train + test


def test_a_part_of_shakespeare_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match="Shakespeare has no part 'tests': the nearest is 'test'"):
        datasets.shakespeare("tests")
