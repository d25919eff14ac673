"""One person's page: what the address may say, what the keys do, which view is kept up."""

import pytest

import seqscope as sq
from seqscope.errors import DataError, LayerError, SampleError
from seqscope.explorer.opening import source_of
from seqscope.explorer.page import Checks, Page, first_choice
from seqscope.explorer.selection import Selection, read_query


@pytest.fixture(scope="module")
def source():
    X, _ = sq.datasets.japanese_vowels("test")
    return source_of(sq.Scope(sq.zoo.japanese_vowels()), X)


@pytest.fixture
def page(source):
    selection = Selection(first_choice(source), Checks(source))
    made = Page(source, selection, [])
    made.template()
    return made


def test_the_first_recurrent_layer_is_looked_at_first(source):
    assert (first_choice(source).layer, first_choice(source).state) == ("lstm", "")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("sample=370", "There is no sample 370: the positions go from 0 to 369."),
        ("sample=-1", "There is no sample -1: the positions go from 0 to 369."),
        ("sample=two", "The address says sample=two, which is no whole number."),
        ("layer=lstn", "There is no layer 'lstn' to look at here: the nearest is 'lstm'."),
        ("state=x", "'lstm' has no state 'x' here"),
        ("unit=100", "There is no unit 100 in 'lstm': the positions go from 0 to 99."),
        ("order=size", "There is no order 'size'"),
        ("view=../../etc/passwd", "There is no view '../../etc/passwd'"),
        ("threshold=nan", "The address says threshold=nan, which is no number."),
        ("theme=blue", "There is no theme 'blue'"),
        ("__class__=1", "The address says '__class__', of which nothing is known here."),
        ("layer=" + "x" * 5000, "The address says layer=xxx"),
    ],
)
def test_a_bad_address_is_told_and_the_rest_of_it_holds(source, query, sentence):
    chosen, wrong = read_query(f"?{query}&order=peak" if "order" not in query else f"?{query}", first_choice(source), Checks(source))
    assert len(wrong) == 1
    assert wrong[0].startswith(sentence)
    assert len(wrong[0]) < 400
    assert chosen.sample == 0
    assert chosen.order == ("peak" if "order" not in query else "cluster")


def test_an_address_says_all_and_is_read_back(source, page):
    page.selection.choose(sample=17, layer="lstm", state="c", unit=3, order="peak", threshold=0.25)
    again, wrong = read_query(page.selection.chosen.query, first_choice(source), Checks(source))
    assert wrong == []
    assert again == page.selection.chosen


def test_choosing_what_is_not_there_is_an_error_and_changes_nothing(page):
    before = page.selection.chosen
    with pytest.raises(SampleError, match="no sample 999"):
        page.selection.choose(sample=999)
    with pytest.raises(LayerError):
        page.selection.choose(sample=1, layer="conv")
    with pytest.raises(DataError):
        page.selection.choose(unit=100)
    assert page.selection.chosen == before


def test_keys_step_through_samples_and_round_the_end(page):
    page._pressed("1:0")
    assert page.selection.chosen.sample == 1
    page._pressed("0:0")
    page._pressed("-1:0")
    assert page.selection.chosen.sample == 369


def test_keys_that_arrive_as_one_are_all_counted(page):
    page.selection.choose(order="name", unit=10)
    page._pressed("7:0")
    page._pressed("4:2")
    assert (page.selection.chosen.sample, page.selection.chosen.unit) == (4, 12)


def test_keys_step_through_units_in_the_order_of_the_heatmap(page):
    shown = page._main["sample"].view
    order = list(shown.units_in_order())
    page.selection.choose(unit=int(order[10]))
    page._pressed("0:1")
    assert page.selection.chosen.unit == order[11]
    page._pressed("0:0")
    page._pressed("0:-1")
    assert page.selection.chosen.unit == order[9]


@pytest.mark.parametrize("said", ["", "sample", "1", "1:", "1.5:0", "sample:3", "1:1:1", "9999999999:0"])
def test_other_keys_do_nothing(page, said):
    before = page.selection.chosen
    page._pressed(said)
    assert page.selection.chosen == before


def test_lists_follow_what_is_chosen_and_choose(page):
    page.selection.choose(state="c", unit=2)
    assert (page._controls.state.value, page._controls.unit.value, page._controls.unit.end) == ("c", 2, 99)
    page._controls.state.value = "f"
    assert (page.selection.chosen.state, page.selection.chosen.unit) == ("f", 2)
    page._controls.sample.value = 12
    assert page.selection.chosen.sample == 12


def test_time_is_the_whole_of_the_sample(source, page):
    page.selection.choose(sample=3)
    assert (page._stage.time.start, page._stage.time.end) == (-0.5, source.lengths[3] - 0.5)


def test_two_pages_do_not_see_each_others_choices(source, page):
    other = Page(source, Selection(first_choice(source), Checks(source)), [])
    other.template()
    other.selection.choose(sample=5)
    assert page.selection.chosen.sample == 0
    assert page._controls.sample.value == 0


def test_what_is_wrong_is_told_until_something_is_chosen(source):
    page = Page(source, Selection(first_choice(source), Checks(source)), ["There is no <sample>."])
    page.template()
    assert page._told.object == "There is no &lt;sample&gt;."
    page.selection.choose(sample=1)
    assert not page._told.visible


def test_an_address_that_is_changed_by_hand_is_followed(page):
    page.go_to("?sample=8&unit=4")
    assert (page.selection.chosen.sample, page.selection.chosen.unit) == (8, 4)
    page.go_to("?sample=8888")
    assert page.selection.chosen.sample == 0
    assert "no sample 8888" in page._told.object
