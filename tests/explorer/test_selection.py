"""What is chosen, who is told, and the address that says it."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqscope.errors import SampleError
from seqscope.explorer.selection import Chosen, Selection, read_query


def anything(field, value, chosen):
    return value


def few(field, value, chosen):
    if field == "sample" and value > 9:
        raise SampleError(f"There is no sample {value}.")
    return value


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
NUMBERS = st.integers(0, 10**9)
FLOATS = st.floats(-1e200, 1e200, allow_nan=False)


@given(
    st.builds(
        Chosen,
        **{field.name: {int: NUMBERS, float: FLOATS, str: TEXTS}[type(getattr(Chosen(), field.name))] for field in fields(Chosen)},
    )
)
def test_an_address_says_all_that_is_chosen_and_is_read_back(chosen):
    assert read_query(f"?{chosen.query}", Chosen(), anything) == (chosen, [])


def test_what_is_as_usual_is_not_said():
    assert Chosen().query == ""
    assert Chosen(sample=3, layer="lstm", threshold=0.5).query == "sample=3&layer=lstm&threshold=0.5"
    assert Chosen(search="a b&c=d").query == "search=a+b%26c%3Dd"


@given(st.text(max_size=200))
def test_whatever_an_address_says_is_a_choice_and_sentences(text):
    chosen, wrong = read_query(f"?{text}", Chosen(), few)
    assert isinstance(chosen, Chosen)
    assert chosen.sample <= 9
    assert all(len(sentence) < 500 for sentence in wrong)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("sample=1.5", "The address says sample=1.5, which is no whole number."),
        ("sample=", "The address says sample=, which is no whole number."),
        ("threshold=inf", "The address says threshold=inf, which is no number."),
        ("sample=99", "There is no sample 99."),
        ("query=1", "The address says 'query', of which nothing is known here."),
        ("_check=1", "The address says '_check', of which nothing is known here."),
        ("layer=" + "x" * 201, "The address says layer=" + "x" * 200 + ", which is no name."),
    ],
)
def test_what_can_not_be_is_told_and_the_rest_holds(query, sentence):
    chosen, wrong = read_query(f"?unit=4&{query}", Chosen(), few)
    assert wrong == [sentence]
    assert chosen == Chosen(unit=4)


def test_those_who_follow_are_told_what_changed():
    told, selection = [], Selection(Chosen())
    selection.follow(told.append)
    selection.choose(sample=3, layer="lstm")
    selection.choose(sample=3)
    selection.choose()
    selection.choose(unit=1)
    assert told == [{"sample", "layer"}, {"unit"}]


def test_a_choice_that_can_not_be_changes_nothing():
    told, selection = [], Selection(Chosen(), few)
    selection.follow(told.append)
    with pytest.raises(SampleError):
        selection.choose(unit=2, sample=10)
    assert selection.chosen == Chosen()
    assert told == []


def test_a_check_sees_what_is_chosen_beside():
    seen = []

    def check(field, value, chosen):
        seen.append((field, value, chosen))
        return value

    Selection(Chosen(), check).choose(layer="lstm", state="c")
    assert seen == [
        ("layer", "lstm", Chosen(layer="lstm")),
        ("state", "c", Chosen(layer="lstm", state="c")),
    ]
    assert replace(Chosen(), layer="lstm") != Chosen()
