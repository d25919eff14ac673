"""`seqscope text` as a person types it, in this process: what the terminal shows and the files that it writes."""

import re
import sys
import textwrap
import warnings
from html import unescape

import numpy as np
import pytest

import seqscope as sq
from seqscope.cli import main

TEXT = "Enter MACBETH.\nSo foul and fair a day I have not seen.\n"
MINE = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self, **options):
            super().__init__()
            torch.manual_seed(0)
            self.rnn = torch.nn.LSTM(3, 4, batch_first=True, **options)

        def forward(self, x):
            return self.rnn(x)[0][:, -1]

    def net():
        return Net()

    def both():
        return Net(bidirectional=True)

    def filters():
        return torch.nn.Sequential(torch.nn.Conv1d(3, 4, 3, padding=1), torch.nn.Conv1d(4, 2, 3))

    class Reader(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.ids, self.rnn = torch.nn.Embedding(3, 5), torch.nn.GRU(5, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(self.ids(x))[0][:, -1]
"""


@pytest.fixture
def typed(tmp_path, monkeypatch, capfd):
    """A command typed in a folder with texts and models: its exit code, its standard output, its standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    (tmp_path / "play.txt").write_text("\ufeff" + TEXT, encoding="utf-8")  # as some editors begin a file
    (tmp_path / "abc.txt").write_text("abcab" * 5)
    (tmp_path / "strange.txt").write_text("Zoë", encoding="utf-8")
    (tmp_path / "binary.txt").write_bytes(b"PK\xff\xfe\x00")
    (tmp_path / "empty.txt").write_text("")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["seqscope", "text", *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as in a process of its own
            with pytest.raises(SystemExit) as ended:
                main()
        shown, said = capfd.readouterr()
        return ended.value.code, shown, " ".join(said.replace("│", " ").split())

    return run


def told(page):
    """The numbers that a page tells of each character, row by row."""
    return np.array([float(number) for number in re.findall(r'title="[^"]*: (\S+?)(?: \([^"]*\))?"', page)])


def test_a_page_tells_what_the_units_do(typed, tmp_path):
    code, shown, said = typed("char_lstm", "play.txt", "--unit", 3, "-o", "t.html", "-o", "t.png")
    assert (code, shown) == (0, ""), said
    model = sq.zoo.char_lstm()
    X = sq.Sequences.from_text(TEXT, characters=model.characters)
    expected = sq.Scope(model).activations(X[0], "lstm").sel(unit=3)
    page = (tmp_path / "t.html").read_text()
    np.testing.assert_allclose(told(page), expected, rtol=1e-3, atol=1e-4)  # four figures each
    assert unescape(re.sub("<.*?>", "", page)).count("MACBETH") == 1
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    assert "55 characters written to t.html" in said
    assert "55 characters drawn in t.png" in said


def test_what_stands_before_a_part_is_read(typed, tmp_path):
    assert typed("char_lstm", "play.txt", "--unit", 5, "--state", "c", "--from", 15, "--length", 7, "-o", "part.html")[0] == 0
    model = sq.zoo.char_lstm()
    X = sq.Sequences.from_text(TEXT, characters=model.characters)
    expected = sq.Scope(model).states(X[0], "lstm").c.sel(unit=5)
    np.testing.assert_allclose(told((tmp_path / "part.html").read_text()), expected[15:22], rtol=1e-3, atol=1e-4)


def test_without_a_file_the_terminal_shows_it(typed):
    code, shown, said = typed("char_lstm", "play.txt", "--unit", 3, "--unit", 60, "--width", 30)
    assert (code, said) == (0, "")
    assert shown.count("MACBETH.⏎") == 2  # a line for each unit
    assert "Unit 60" in shown
    assert "60" not in typed("char_lstm", "play.txt", "--unit", 3)[1]


def test_of_a_long_text_a_part_is_shown_and_said(typed, tmp_path):
    code, _, said = typed("char_lstm", "shakespeare:train", "--unit", 0, "-o", "t.html")
    assert code == 0
    assert "Characters 0 to 1,999 of 181,892 are shown: --from and --length choose others." in said
    assert len(told((tmp_path / "t.html").read_text())) == 2000


def test_models_that_do_not_name_their_characters(typed):
    assert "say --characters" in typed("mine:net", "abc.txt", "--unit", 0)[2]
    assert typed("mine:net", "abc.txt", "--unit", 0, "--characters", "abc")[0] == 0
    assert typed("mine:Reader", "abc.txt", "--unit", 0, "--characters", "abc", "--ids", "--state", "z")[0] == 0
    shown = typed("mine:both", "abc.txt", "--unit", 1, "--characters", "abc", "--state", "f")[1]
    assert "Backward" in shown
    assert typed("mine:filters", "abc.txt", "--unit", 0, "--characters", "abc", "--layer", "0")[0] == 0


def test_a_known_character_stands_for_others(typed, tmp_path):
    code, _, said = typed("char_lstm", "strange.txt", "--unit", 0, "--unknown", "e", "-o", "t.html")
    assert code == 0, said
    assert "ë" in (tmp_path / "t.html").read_text()  # the text is shown as it is
    model = sq.zoo.char_lstm()
    expected = sq.Scope(model).activations(sq.Sequences.from_text("Zoe", characters=model.characters)[0], "lstm").sel(unit=0)
    np.testing.assert_allclose(told((tmp_path / "t.html").read_text()), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("char_lstm", "none.txt", "--unit", 0), 1, "There is no file 'none.txt'"),
        (("char_lstm", "binary.txt", "--unit", 0), 1, "The file 'binary.txt' is not text in UTF-8: byte 0xff at 2."),
        (("char_lstm", "empty.txt", "--unit", 0), 1, "The file 'empty.txt' is empty."),
        (("char_lstm", "strange.txt", "--unit", 0), 1, "The text holds the character 'ë', which is not among the 68 known ones"),
        (("char_lstm", "strange.txt", "--unit", 0, "--unknown", "~"), 1, "`unknown` is '~'"),
        (("char_lstm", "play.txt", "--unit", 64), 1, "There is no unit 64 in the layer 'lstm'"),
        (("char_lstm", "play.txt", "--unit", 0, "--layer", "lstn"), 1, "the nearest is 'lstm'"),
        (("char_lstm", "play.txt", "--unit", 0, "--layer", "fc"), 1, "'fc' has no units with a value at each step"),
        (("char_lstm", "play.txt", "--unit", 0, "--state", "z"), 1, "'lstm' has no state 'z'"),
        (("char_lstm", "play.txt", "--unit", 0, "--from", 55), 1, "it can't be shown from 55 on"),
        (("char_lstm", "play.txt", "--unit", 0, "--length", 0), 1, "--length is 0"),
        (("char_lstm", "play.txt", "--unit", 0, "--width", 0), 1, "The width is 0"),
        (("mine:filters", "abc.txt", "--unit", 0, "--characters", "abc"), 1, "The model has no recurrent layer"),
        (("mine:filters", "abc.txt", "--unit", 0, "--characters", "abc", "--layer", "1"), 1, "'1' has steps of its own"),
        (("japanese_vowels", "abc.txt", "--unit", 0, "--characters", "abc"), 1, "The data has 3 channels and the model takes 12"),
        (("char_lstm", "play.txt"), 2, "Missing option '--unit'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_file(typed, tmp_path, arguments, code, sentence):
    ended, shown, said = typed(*arguments, "-o", "t.html", "-o", "t.png")
    assert ended == code
    assert sentence in said
    assert (shown, "Traceback" in said) == ("", False)
    assert not [*tmp_path.glob("t.*")]


def test_files_are_seen_to_before_the_work(typed, tmp_path):
    (tmp_path / "there.html").write_text("mine")
    assert "exists" in typed("char_lstm", "play.txt", "--unit", 0, "-o", "there.html")[2]
    assert "expected an ending out of '.nc'" in typed("char_lstm", "play.txt", "--unit", 0, "-o", "t.doc")[2]
