"""The page on a model and its data: what it says is so, what it can't have it says, and it needs nothing but itself."""

import base64
import json
import re
from html import unescape

import numpy as np
import pytest
import torch
from playwright.sync_api import expect
from scipy.stats import spearmanr
from torch import nn

import onnx_nets
import seqscope as sq
from seqscope.errors import DataError, LayerError, OutputExistsError, SampleError, UnsupportedError, hearing
from seqscope.report import Picture, Section, write_page
from seqscope.report.subject import Asked, Subject
from seqscope.report.verb import PARTS, had_or_told


class Reader(nn.Module):
    """A recurrent net with one output, or with one at every step."""

    def __init__(self, *, every_step=False, **options):
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True, **options)
        self.fc = nn.Linear(8 if options.get("bidirectional") else 4, 1)
        self.every_step = every_step

    def forward(self, x):
        h = self.rnn(x)[0]
        return self.fc(h if self.every_step else h[:, -1])


class OfTokens(nn.Module):
    """A net of tokens."""

    def __init__(self):
        super().__init__()
        self.embedding, self.rnn, self.fc = nn.Embedding(10, 3), nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.rnn(self.embedding(x))[0][:, -1])


def convolution(channels=2):
    return nn.Sequential(nn.Conv1d(channels, 3, 5), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 2)).eval()


def noise(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


@pytest.fixture(scope="module")
def vowels():
    X, _ = sq.datasets.japanese_vowels("test")
    return sq.Scope(sq.zoo.japanese_vowels()), X[::6]


@pytest.fixture(scope="module")
def file(vowels, tmp_path_factory):
    """The report on the shipped network, of every sixth sequence."""
    scope, X = vowels
    return scope.report(X, tmp_path_factory.mktemp("report") / "report.html", progress=False)


@pytest.fixture(scope="module")
def page(file):
    """What stands in that report."""
    return file.read_text()


def sections_of(page):
    """The text of each section by its heading."""
    found = re.findall(r"<section id=\"s\d+\">\s*<h2>(.*?)</h2>(.*?)</section>", page, re.DOTALL)
    return {title.replace("&#39;", "'"): body for title, body in found}


WHY, MISTAKES, ASKED = "What the decision rests on", "The mistakes", "What each class asks for"


def parts(model, X, *titles):
    """Parts of a report on a model, as they stand on the page: the text and the Python of each section by its heading."""
    scope = sq.Scope(model)
    subject = Subject(scope, scope.sequences(X), Asked())
    found = {title: list(had_or_told(title, PARTS[title], subject)) for title in titles}
    return {title: " ".join(f"{one.title}. {one.text} {one.code}" for one in sections) for title, sections in found.items()}


def test_all_that_is_promised_is_there(page):
    titles = list(sections_of(page))
    for title in (
        "The layers",
        "The data",
        "What it decides",
        "What 'lstm' puts out at each step",
        "Gates and memory of 'lstm'",
        "What the decision rests on",
        "How far the methods agree",
        "The mistakes",
        "What each class asks for",
        "Every unit",
        "How this was made",
    ):
        assert title in titles
    assert "left out" not in page
    assert "failed" not in page
    assert len(page) < 10_000_000


def test_accuracy_is_that_of_the_network(page, vowels):
    scope, X = vowels
    right = int((scope.predict(X).idxmax("output").values == X.labels).sum())
    assert f"Of {len(X)} sequences {right} are given to the right class ({100 * right / len(X):.1f} %)." in page


def test_samples_are_a_typical_one_the_least_sure_one_and_the_worst_mistake(vowels):
    scope, X = vowels
    probability = scope.predict(X).values
    score, said = probability.max(axis=1), probability.argmax(axis=1)
    right = said == np.array([scope.predict(X).output.values.tolist().index(label) for label in X.labels])
    typical, least, worst = Subject(scope, X, Asked()).samples
    assert score[least] == score[right].min()
    assert score[worst] == score[~right].max()
    assert (score[right] <= score[typical]).sum() == pytest.approx(right.sum() / 2, abs=1)


def test_rank_correlations_are_those_of_scipy(page, vowels):
    scope, X = vowels
    rows = re.findall(
        r"<tr><td>(\S+?)</td><td>[^<]*</td><td class=\"number\">(\S+?)</td></tr>", sections_of(page)["How far the methods agree"]
    )
    assert len(rows) == 12
    for sample, said in rows[:4]:
        place = X.samples.tolist().index(int(sample))
        found = [scope.attribute(X[place], method).values.ravel() for method in ("integrated_gradients", "occlusion")]
        assert float(said) == pytest.approx(spearmanr(*found).statistic, abs=0.0051)


def test_mistakes_are_counted_by_pairs(page, vowels):
    scope, X = vowels
    said = scope.predict(X).idxmax("output").values
    wrong = [(str(label), str(one)) for label, one in zip(X.labels, said, strict=True) if label != one]
    rows = re.findall(r"<tr><td>(\S+?)</td><td>(\S+?)</td><td class=\"number\">(\d+)</td></tr>", sections_of(page)["The mistakes"])
    assert {(label, one): int(number) for label, one, number in rows} == {pair: wrong.count(pair) for pair in wrong}


def test_the_page_needs_nothing_outside_itself(page):
    addresses = re.findall(r"(?:src|href|url|action|@import)\s*[=(]\s*[\"']?([^\"')\s>]+)", page)
    assert all(address.startswith(("data:image/png;base64,", "#s")) for address in addresses)
    assert "http" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)


def test_every_picture_has_words_and_no_content_comes_by_script(page):
    pictures = re.findall(r"<img src=\"data:image/png;base64,([A-Za-z0-9+/=]+)\" alt=\"([^\"]+)\"", page)
    assert len(pictures) > 8
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture, _ in pictures)
    without = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert len(re.findall(r"<img ", without)) == len(pictures)


def test_a_pointer_is_told_the_numbers_of_the_layer(page, vowels):
    scope, X = vowels
    body = sections_of(page)["What 'lstm' puts out at each step"]
    (panel,) = json.loads(re.search(r"class=\"cells\">(.*?)</script>", body, re.DOTALL)[1])
    row = Subject(scope, X, Asked()).samples[0]
    hidden = scope.activations(X[row], "lstm")
    values = np.array(panel["values"], float)
    assert values.shape == (100, hidden.sizes["time"])
    assert panel["columns"] == [str(step) for step in range(hidden.sizes["time"])]
    named = dict(zip(panel["rows"], values, strict=True))
    assert sorted(named, key=int) == [str(unit) for unit in range(100)]
    for unit in range(100):
        np.testing.assert_allclose(named[str(unit)], hidden.sel(unit=unit), rtol=6e-3, atol=1e-6)
    assert all(0 <= share <= 1 for share in panel["box"])


def test_in_a_browser_the_pointer_tells_the_value_under_it(file, vowels, new_page):
    scope, X = vowels
    row = Subject(scope, X, Asked()).samples[0]
    hidden = scope.activations(X[row], "lstm")
    tab = new_page()
    tab.goto(file.as_uri())
    heatmap = tab.get_by_role("heading", name="What 'lstm' puts out at each step").locator("..").get_by_role("img")
    (panel,) = json.loads(heatmap.locator("..").locator("script.cells").text_content())
    left, top, right, bottom = panel["box"]
    told = tab.locator(".value")
    expect(told).to_be_hidden()
    heatmap.scroll_into_view_if_needed()
    for place, step in ((0, 0), (99, hidden.sizes["time"] - 1), (40, 7)):  # the corners of the picture, and a cell within
        across, down = (sum(panel[way][at : at + 2]) / 2 for way, at in (("across", step), ("down", place)))
        box = heatmap.bounding_box()
        x, y = left + across * (right - left), top + down * (bottom - top)
        heatmap.hover(position={"x": x * box["width"], "y": y * box["height"]})
        name, lines = panel["rows"][place], told.locator("div")
        expect(lines.nth(0)).to_have_text(f"{panel['y']}: {name}")
        expect(lines.nth(1)).to_have_text(f"{panel['x']}: {step}")
        assert float(lines.nth(2).text_content()) == pytest.approx(float(hidden.sel(unit=int(name))[step]), rel=6e-3)
    heatmap.hover(position={"x": 1, "y": 1})
    expect(told).to_be_hidden()


def test_in_a_browser_pictures_enlarge_and_all_are_there_without_scripts(file, page, new_page):
    tab = new_page(viewport={"width": 500, "height": 900})
    tab.goto(file.as_uri())
    picture = tab.get_by_role("img").first
    narrow = picture.bounding_box()["width"]
    picture.click()
    assert picture.bounding_box()["width"] == picture.evaluate("image => image.naturalWidth") > narrow
    picture.press("Enter")
    assert picture.bounding_box()["width"] == narrow
    plain = new_page(java_script_enabled=False)
    plain.goto(file.as_uri())
    shown = plain.get_by_role("img").all()
    assert len(shown) == len(re.findall("<img ", page))
    assert all(one.bounding_box()["width"] > 100 for one in shown)


def test_how_it_was_made_is_said(page, vowels):
    body = sections_of(page)["How this was made"]
    for part in (vowels[0].digest, sq.__version__, torch.__version__.partition("+")[0], "integrated_gradients, occlusion"):
        assert part in body


def test_every_sections_python_runs(page, vowels):
    scope, X = vowels
    import matplotlib.pyplot as plt

    names = {"scope": scope, "X": X, "sq": sq}
    for title, body in sections_of(page).items():
        code = re.search(r"<pre><code>(.*?)</code></pre>", body, re.DOTALL)
        if code is not None and title != "What each class asks for":  # which takes seconds; its line is the verb's own example
            with hearing():  # a mistake that is explained is an output below chance
                exec(unescape(code[1]), names)
    plt.close("all")
    assert names["report"].sizes["unit"] == 100


# What can't be had


def test_outputs_at_every_step_and_both_directions():
    model = Reader(every_step=True, bidirectional=True, num_layers=2).eval()
    found = parts(model, noise(8, 12, 3), WHY, MISTAKES, ASKED, "What the units do")
    assert "target=sq.target.output(0, time=-1)" in found[WHY]
    assert "left out" not in found[WHY]
    assert "outputs have steps" in found[ASKED]
    assert "no labels that name outputs" in found[MISTAKES]
    assert "Gates and memory of 'rnn.0'" in found["What the units do"]


def test_one_output_that_is_a_measurement():
    found = parts(Reader().eval(), sq.Sequences(noise(12, 10, 3), layout="NTC", labels=noise(12)), MISTAKES, ASKED)
    assert found[ASKED].startswith("What raises the score.")
    assert "left out" in found[MISTAKES]


def test_one_step_of_one_sequence(tmp_path):
    found = sections_of(sq.Scope(Reader().eval()).report(noise(1, 1, 3), tmp_path / "report.html", progress=False).read_text())
    assert "left out" in found[ASKED]
    assert "What drives unit 0 most" in found
    assert "failed" not in "".join(found.values())


def test_tokens():
    found = parts(OfTokens().eval(), np.random.default_rng(0).integers(0, 10, (12, 9)), WHY, ASKED, "The data", "What each unit does")
    assert "'occlusion': scope.attribute(" in found[WHY]
    assert "integrated" not in found[WHY]
    assert "left out" not in found["What each unit does"] + found["The data"]
    assert "left out" in found[ASKED]


def test_onnx_is_explained_without_derivatives():
    model = onnx_nets.conv_net().model
    found = parts(model, sq.Scope(model)._specimen.some_data()[0], WHY, ASKED)
    assert "feature ablation" in found[WHY]
    assert "integrated" not in found[WHY]
    assert "maximize needs derivatives" in found[ASKED]


def test_of_many_channels_all_are_hidden_together():
    found = parts(convolution(40), sq.Sequences(noise(6, 20, 40), layout="NTC", labels=np.arange(6) % 2), WHY, ASKED)
    assert "channels='all'" in found[WHY]
    assert "40 channels" in found[ASKED]


def test_a_model_that_is_always_right_has_no_mistakes():
    model = convolution()
    X = noise(8, 30, 2)
    said = sq.Scope(model).predict(sq.Sequences(X, layout="NTC")).argmax("output").values
    assert "There are none among 8 sequences." in parts(model, sq.Sequences(X, layout="NTC", labels=said), MISTAKES)[MISTAKES]


def test_attention_is_shown_where_there_is_some():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.fc = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.attention(x, x, x)[0].mean(1))

    assert "Attention weights of 'attention'" in parts(Attends().eval(), noise(3, 6, 4), "Attention weights")["Attention weights"]
    assert parts(convolution(), noise(3, 2, 20), "Attention weights") == {"Attention weights": ""}


def test_a_part_that_fails_leaves_the_others(vowels, caplog):
    subject = Subject(*vowels, Asked())

    def fails(subject):
        yield Section("Begun", "", "")
        raise RuntimeError("out of luck")

    (told,) = had_or_told("A part", fails, subject)
    assert told.title == "A part"
    assert "RuntimeError: out of luck" in told.text
    assert "out of luck" in caplog.text
    assert next(iter(had_or_told("The layers", PARTS["The layers"], subject))).table is not None


# Names from data are never markup


def test_names_are_text(tmp_path):
    evil = "</script><script>alert(1)</script>"
    X = sq.Sequences(noise(8, 30, 2), layout="NTC", channels=[evil, "b&b"], labels=np.array([evil, "x"] * 4), outputs=[evil, "x"])
    page = sq.Scope(convolution()).report(X, tmp_path / "report.html", progress=False).read_text()
    assert "<script>alert" not in page
    assert page.count("<script") == page.count("</script>")
    assert "&lt;/script&gt;" in page


def test_cells_can_stand_in_a_page(tmp_path):
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    ax.pcolormesh([[1.0, np.nan]])
    ax.set_xlabel("</script><b>")
    picture = Picture.of(figure, "cells")
    plt.close(figure)
    assert "<" not in picture.cells
    assert json.loads(picture.cells)[0]["x"] == "</script><b>"
    assert json.loads(picture.cells)[0]["values"] == [[1.0, None]]
    write_page(tmp_path / "page.html", title="t", lead="", sections=[Section("s", "", "", picture=picture)], made_from="")


# Bad input


def test_bad_input_is_told_before_the_work(vowels, tmp_path):
    scope, X = vowels
    with pytest.raises(UnsupportedError, match=r"'report.pdf' should end in \.html"):
        scope.report(X, tmp_path / "report.pdf")
    (tmp_path / "there.html").write_text("mine")
    with pytest.raises(OutputExistsError):
        scope.report(X, tmp_path / "there.html")
    with pytest.raises(SampleError, match="no sample 62"):
        scope.report(X, tmp_path / "a.html", samples=62)
    with pytest.raises(LayerError, match="nearest is 'lstm'"):
        scope.report(X, tmp_path / "a.html", layers="lstn")
    with pytest.raises(DataError, match="can't be explained by 'magic'"):
        scope.report(X, tmp_path / "a.html", methods=["magic"])
    assert (tmp_path / "there.html").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["there.html"]


def test_a_method_that_fails_leaves_the_others(vowels, monkeypatch):
    subject = Subject(*vowels, Asked(methods=("integrated_gradients", "occlusion", "grad_cam")))
    own = subject.attributed

    def attributed(row, method, **options):
        if method == "occlusion":
            raise UnsupportedError("It is too dark.")
        return own(row, method, **options)

    monkeypatch.setattr(subject, "attributed", attributed)
    shown, agreed = had_or_told(WHY, PARTS[WHY], subject)
    assert "Occlusion is left out: It is too dark." in shown.text
    assert "integrated gradients and grad cam" in shown.text
    assert agreed.title == "How far the methods agree"
