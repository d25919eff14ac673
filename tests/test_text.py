"""Text as sequences of characters. Expectations are written out by hand, or looked up character by character."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import seqscope as sq
from seqscope import ram
from seqscope.errors import DataError, TooLargeError
from seqscope.text import text_of

LINE = "to be, or not to be"


def looked_up(text, characters):
    """One-hot characters, one at a time."""
    coded = np.zeros((len(text), len(characters)), np.float32)
    for place, character in enumerate(text):
        coded[place, list(characters).index(character)] = 1
    return coded


def test_a_whole_text_is_one_sequence_of_one_hot_characters():
    X = sq.Sequences.from_text(LINE)
    assert X.single
    assert X.dtype == np.float32
    assert X.channels == tuple(" ,benort") == X.outputs
    np.testing.assert_array_equal(X[0], looked_up(LINE, " ,benort"))
    assert X[0].dims == ("time", "channel")
    assert X[0].time.values.tolist() == list(range(len(LINE)))
    assert X.labels is None


def test_as_ids_it_is_tokens():
    X = sq.Sequences.from_text("abca", encoding="ids")
    assert X.is_tokens
    assert X.single
    assert X[0].values.tolist() == [0, 1, 2, 0]
    assert X.dtype == np.int64
    assert X.channels is None
    assert X.outputs == ("a", "b", "c")


def test_the_order_of_the_characters_is_the_one_given():
    for characters in ("cab", ["c", "a", "b"], np.array(["c", "a", "b"])):
        X = sq.Sequences.from_text("abca", characters=characters, encoding="ids")
        assert X[0].values.tolist() == [1, 2, 0, 1]
        assert X.outputs == ("c", "a", "b")


def test_several_texts_are_ragged_sequences_over_one_alphabet():
    X = sq.Sequences.from_text(["to be", "or", "not"], samples=["x", "y", "z"], labels=[1, 0, 1], outputs=["verse", "prose"])
    assert repr(X) == "Sequences: 3 sequences, 2 to 5 steps, 7 channels"
    assert X.channels == tuple(" benort")
    assert X.samples.tolist() == ["x", "y", "z"]
    assert X.labels.tolist() == [1, 0, 1]
    assert X.outputs == ("verse", "prose")
    np.testing.assert_array_equal(X[1], looked_up("or", " benort"))


def test_windows_lie_side_by_side_and_the_rest_is_a_shorter_one():
    X = sq.Sequences.from_text("abcdefgh", window=3)
    assert [text_of(x) for x in X] == ["abc", "def", "gh"]
    assert X.labels.tolist() == ["d", "g", ""]
    assert X[2].label.item() == ""
    X = sq.Sequences.from_text("abcdefgh", window=3, remainder=False)
    assert [text_of(x) for x in X] == ["abc", "def"]
    assert X.labels.tolist() == ["d", "g"]


@pytest.mark.parametrize(
    ("n", "window", "stride", "expected"),
    [
        (6, 3, 1, ["abc", "bcd", "cde", "def"]),  # nothing is left
        (7, 3, 2, ["abc", "cde", "efg"]),
        (8, 3, 2, ["abc", "cde", "efg", "gh"]),
        (9, 3, 4, ["abc", "efg", "i"]),
        (7, 3, 4, ["abc", "efg"]),
        (8, 3, 5, ["abc", "fgh"]),
        (4, 3, 5, ["abc"]),  # what is left lies in the gap before the next
        (2, 3, 1, ["ab"]),
        (3, 3, 3, ["abc"]),
    ],
)
def test_windows_are_a_stride_apart(n, window, stride, expected):
    X = sq.Sequences.from_text("abcdefghi"[:n], window=window, stride=stride)
    assert [text_of(x) for x in X] == expected
    assert not X.single


def test_windows_do_not_reach_into_the_next_text():
    X = sq.Sequences.from_text(["abcde", "fghi"], window=3)
    assert [text_of(x) for x in X] == ["abc", "de", "fgh", "i"]
    assert X.labels.tolist() == ["d", "", "i", ""]


texts = st.lists(st.text("ab\n é☃😀", min_size=1, max_size=30), min_size=1, max_size=4)


@given(texts, st.integers(1, 8), st.integers(1, 8), st.sampled_from(["one_hot", "ids"]))
def test_windows_are_the_slices_of_the_texts(texts, window, stride, encoding):
    expected, following = [], []
    for text in texts:
        covered = 0
        for start in range(0, len(text), stride):
            piece = text[start : start + window]
            if len(piece) < window and (covered >= len(text) or len(text) - start >= window):
                continue
            expected.append(piece)
            following.append(text[start + window : start + window + 1])
            covered = start + len(piece)
            if len(piece) < window:
                break
    X = sq.Sequences.from_text(texts, window=window, stride=stride, encoding=encoding)
    assert [text_of(x) for x in X] == expected
    assert X.labels.tolist() == following
    batches = {int(row): batch.values[place] for batch in X.batches(3) for place, row in enumerate(np.arange(len(X))[batch.rows])}
    for row, piece in enumerate(expected):
        places = [X.outputs.index(character) for character in piece]
        np.testing.assert_array_equal(batches[row] if encoding == "ids" else batches[row].argmax(axis=1), places)


@pytest.mark.parametrize("encoding", ["one_hot", "ids"])
def test_a_nul_is_a_character_like_another(encoding):
    X = sq.Sequences.from_text("ab\0c\0\0", window=2, encoding=encoding)
    assert [text_of(x) for x in X] == ["ab", "\0c", "\0\0"]


def test_windows_that_overlap_share_their_memory():
    text = "abcdefgh" * 1000
    whole, windows = sq.Sequences.from_text(text), sq.Sequences.from_text(text, window=100, stride=1)
    assert len(windows) == 7901
    assert windows.to_flat().steps.nbytes == whole.to_flat().steps.nbytes == len(text) * 8 * 4


def test_selections_and_selected_sequences_keep_characters_and_text():
    X = sq.Sequences.from_text(LINE, window=4)
    assert text_of(X[2]) == text_of(X[2:3]) == text_of(sq.Sequences(X[2])) == LINE[8:12]
    assert sq.Sequences(list(X)).outputs == X.outputs
    ids = sq.Sequences.from_text(LINE, window=4, encoding="ids")
    assert text_of(ids[2]) == LINE[8:12]


def test_characters_that_are_not_known_are_named_with_the_first_place():
    with pytest.raises(DataError) as caught:
        sq.Sequences.from_text("naïve café", characters="abcdefghijklmnopqrstuvwxyz ")
    assert str(caught.value) == (
        "The text holds the characters 'ï', 'é', which are not among the 27 known ones (first 'ï' at position 2): add to `characters` if "
        "the model knows more, replace them in the text, or give `unknown=`, a known character that stands for them."
    )
    with pytest.raises(DataError, match=r"Text 1 holds the character '\\r', which is not .* \(first '\\r' at position 1\)"):
        sq.Sequences.from_text(["ab", "a\rb"], characters="ab")
    with pytest.raises(DataError, match=r"characters 'c', 'd', .* 'i', 'j' and 2 more, which"):
        sq.Sequences.from_text("abcdefghijkl", characters="ab")


def test_one_may_stand_for_characters_that_are_not_known():
    X = sq.Sequences.from_text("naïve ☃!", characters="aeinv ", unknown=" ")
    assert text_of(X) == "na ve   "
    X = sq.Sequences.from_text("naïve", characters="aeinv", unknown="i", encoding="ids")
    assert text_of(X) == "naive"


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", {}, "The text is empty."),
        ([], {}, "The list of texts is empty"),
        (["a", ""], {}, "Text 1 is empty: leave it out."),
        (b"abc", {}, "of type bytes: expected str"),
        (3, {}, "of type int: expected str"),
        (["a", 3], {}, "Text 1 is of type int"),
        ({"a", "b"}, {}, "The texts are in a set: expected str, or a list of str, in the order"),
        ({"a": "b"}, {}, "The texts are in a dict"),
        (np.array("abc"), {}, "The texts are in a ndarray"),
        (Path("a.txt"), {}, r"read it, as Path\('a.txt'\).read_text\(\)"),
        ("abc", {"encoding": "onehot"}, "no encoding 'onehot' of characters: the nearest is 'one_hot'"),
        ("abc", {"encoding": 1}, "no encoding 1 of characters"),
        ("abc", {"window": 0}, "`window` is 0: expected a number of characters, 1 or more"),
        ("abc", {"window": 2.5}, "`window` is 2.5"),
        ("abc", {"window": True}, "`window` is True"),
        ("abc", {"window": 2, "stride": -1}, "`stride` is -1"),
        ("abc", {"stride": 2}, "`stride` is 2 and there are no windows"),
        ("abc", {"window": 4, "remainder": False}, "No text is as long as the window of 4 characters"),
        ("abc", {"characters": ""}, "`characters` is empty"),
        ("abc", {"characters": ["a", "bc"]}, "Item 1 of `characters` is 'bc': expected single characters"),
        ("abc", {"characters": ["a", 2]}, "Item 1 of `characters` is 2"),
        ("abc", {"characters": "abca"}, "`characters` holds 'a' twice"),
        ("abc", {"characters": 26}, "`characters` is 26"),
        ("abc", {"characters": {"a": 1, "b": 0}}, "`characters` is a mapping, whose order may not be the model's"),
        ("abc", {"characters": {"a"}}, "`characters` is {'a'}: .* in the model's order"),
        ("abc", {"unknown": "?"}, r"`unknown` is '\?': expected one of the known characters \('a', 'b', 'c'\)"),
        ("abc", {"unknown": "ab"}, "`unknown` is 'ab'"),
        ("abc", {"labels": [1, 2]}, "labels have shape"),
    ],
)
def test_what_is_no_text_is_refused(text, options, words):
    with pytest.raises(DataError, match=words):
        sq.Sequences.from_text(text, **options)


def test_a_text_that_would_not_fit_one_hot_is_refused(monkeypatch):
    monkeypatch.setattr(ram, "available", lambda: 1_000_000)
    text = "abcdefghij" * 10_000
    with pytest.raises(TooLargeError, match=r"100,000 characters, one-hot over 10, would take 4 MB and 1 MB .* or as encoding='ids'"):
        sq.Sequences.from_text(text)
    assert len(sq.Sequences.from_text(text, encoding="ids", window=10)) == 10_000


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (sq.Sequences.from_text(["ab", "ba"]), "There are 2 sequences .* choose it, as X\\[0\\]"),
        (np.zeros((4, 2)), "not made of characters"),
        (np.array([0, 1, 2]), "not made of characters"),
        (sq.Sequences(np.full((4, 2), 0.5), channels=["a", "b"]), "not one-hot"),
        (sq.Sequences(np.zeros((4, 2)), channels=["a", "b"]), "not one-hot"),
        (sq.Sequences(np.array([0, 1, 2]), outputs=["a", "b"]), "ids go from 0 to 2 and there are 2 characters"),
    ],
)
def test_the_text_of_what_is_no_text_is_refused(x, words):
    with pytest.raises(DataError, match=words):
        text_of(x)


@pytest.mark.parametrize("text", ["to be", ["to be", "or not"]])
def test_text_as_it_is_gets_the_call_that_takes_it(text):
    with pytest.raises(DataError, match=r"The data is text, 'to be': give Sequences.from_text\(text, characters=...\)"):
        sq.Sequences(text)


class Tagger(torch.nn.Module):
    """Ids in, the score of each character at the last step out."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(8, 5)
        self.lstm = torch.nn.LSTM(5, 6, batch_first=True)
        self.fc = torch.nn.Linear(6, 8)

    def forward(self, ids):
        return self.fc(self.lstm(self.embedding(ids))[0][:, -1])


def test_a_model_takes_the_ids_and_its_outputs_are_called_by_the_characters():
    X = sq.Sequences.from_text(LINE, window=6, encoding="ids")
    model = Tagger().eval()
    found = sq.Scope(model).predict(X)
    assert found.output.values.tolist() == list(" ,benort")
    with torch.no_grad():
        expected = model(torch.tensor([[" ,benort".index(character) for character in LINE[6:12]]]))
    np.testing.assert_allclose(found[1], expected[0], rtol=1e-5)
    assert found.label.values.tolist() == [" ", "t", "e", ""]
