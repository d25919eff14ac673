import warnings

import pytest

from seqscope.axes import Reading
from seqscope.errors import LayerError
from seqscope.selection import Request, layer_of, select

NAMES = ("encoder", "encoder.lstm", "encoder.fc", "head", "branch")
ROWS = ("encoder.lstm", "encoder.fc", "head", "branch")

LSTM = Reading(("sample", "time", "unit"))
HEAD = Reading(("sample", "unit"))
LEFT, RIGHT = Reading(("sample", "time", "axis_2")), Reading(("sample", "axis_1"))
SEEN = {"encoder.lstm": LSTM, "head": HEAD, "branch[0]": LEFT, "branch[1]": RIGHT}


def picked(layers, seen=SEEN):
    return select(layers, NAMES, ROWS).pick(seen)


@pytest.mark.parametrize(
    ("address", "layer"),
    [
        ("lstm", "lstm"),
        ("encoder.lstm", "encoder.lstm"),
        ("branch[0]", "branch"),
        ("a.branch[0][1]", "a.branch"),
        ("branch[key]", "branch"),
        ("odd[0].lstm", "odd[0].lstm"),
        ("", ""),
    ],
)
def test_an_address_tells_its_layer(address, layer):
    assert layer_of(address) == layer


# What is asked for


def test_a_name_alone_is_one_array():
    selection = select("encoder.lstm", NAMES, ROWS)
    assert selection.one
    assert selection.capture == ("encoder.lstm",)
    assert selection.pick(SEEN) == {"encoder.lstm": LSTM}


def test_a_name_in_a_list_is_a_tree():
    selection = select(["encoder.lstm"], NAMES, ROWS)
    assert not selection.one
    assert selection.pick(SEEN) == {"encoder.lstm": LSTM}


def test_one_tensor_of_a_layer_is_one_array():
    selection = select("branch[1]", NAMES, ROWS)
    assert selection.one
    assert selection.capture == ("branch",)
    assert selection.pick(SEEN) == {"branch[1]": RIGHT}


def test_a_glob_is_a_tree_of_layers_in_the_models_order_without_containers():
    selection = select("enc*", NAMES, ROWS)
    assert not selection.one
    assert selection.capture == ("encoder.lstm", "encoder.fc")


def test_a_glob_that_fits_one_layer_is_a_tree_all_the_same():
    assert not select("*.lstm", NAMES, ROWS).one


def test_nothing_said_is_every_layer_and_no_container():
    selection = select(None, NAMES, ROWS)
    assert not selection.one
    assert selection.capture == ROWS


def test_names_come_in_the_order_in_which_they_were_said():
    assert list(picked(["head", "encoder.lstm"])) == ["head", "encoder.lstm"]


def test_a_layer_that_is_meant_twice_is_looked_at_once():
    selection = select(["head", "h*", "branch[0]", "branch[1]"], NAMES, ROWS)
    assert selection.capture == ("head", "branch")
    assert selection.pick(SEEN) == {"head": HEAD, "branch[0]": LEFT, "branch[1]": RIGHT}


def test_a_name_goes_before_the_glob_that_it_looks_like():
    selection = select("conv[0]", ("conv[0]", "conv0"), ())
    assert selection.one
    assert selection.requests == (Request("conv[0]"),)


def test_upper_and_lower_case_differ():
    with pytest.raises(LayerError, match=r"No layer is named 'HEAD\*'"):
        select("HEAD*", NAMES, ROWS)


# What can't be had


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("encoder.lstn", "No layer is named 'encoder.lstn': the nearest are 'encoder.lstm'"),
        ("decoder.*", "No layer is named 'decoder.*'"),
        (["head", "xyz"], "No layer is named 'xyz': there are 'encoder', 'encoder.lstm', 'encoder.fc', 'head', 'branch'"),
        ("lstm[0]", r"No layer is named 'lstm[0]'"),
    ],
)
def test_a_name_that_no_layer_has_gets_the_nearest(asked, words):
    with pytest.raises(LayerError) as caught:
        select(asked, NAMES, ROWS)
    assert words in str(caught.value)


@pytest.mark.parametrize("nothing", [[], ()])
def test_an_empty_list_of_layers_is_refused(nothing):
    with pytest.raises(LayerError, match="No layer was asked for"):
        select(nothing, NAMES, ROWS)


@pytest.mark.parametrize("asked", [3, [None], ["head", 0]])
def test_what_is_no_name_is_refused_in_a_sentence(asked):
    with pytest.raises(LayerError, match="name"):
        select(asked, NAMES, ROWS)


@pytest.mark.parametrize("asked", ["encoder.fc", ["head", "encoder.fc"]])
def test_a_named_layer_that_was_not_seen_is_an_error(asked):
    with pytest.raises(LayerError, match=r"^The layer 'encoder\.fc' never ran for this input"):
        picked(asked)


@pytest.mark.parametrize("asked", [None, "*"])
def test_layers_of_a_glob_that_were_not_seen_are_left_out_with_a_warning(asked):
    with pytest.warns(UserWarning, match=r"^Left out: .*'encoder\.fc' never ran") as caught:
        chosen = picked(asked)
    assert chosen == {"encoder.lstm": LSTM, "head": HEAD, "branch[0]": LEFT, "branch[1]": RIGHT}
    assert len(caught) == 1


def test_nothing_is_warned_of_where_all_was_seen():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert picked("*.lstm") == {"encoder.lstm": LSTM}


def test_a_layer_asked_for_by_name_and_by_glob_is_an_error_where_it_was_not_seen():
    with pytest.raises(LayerError, match="never ran"):
        picked(["encoder.*", "encoder.fc"])


def test_a_glob_of_which_nothing_was_seen_is_an_error_that_names_each():
    with pytest.raises(LayerError) as caught:
        picked("enc*", {"head": HEAD})
    message = str(caught.value)
    assert message.startswith("None of the layers could be seen.")
    assert "The layers 'encoder.lstm', 'encoder.fc' never ran" in message


def test_a_layer_of_several_tensors_says_what_to_ask_for():
    with pytest.raises(LayerError) as caught:
        picked("branch")
    assert str(caught.value) == "The layer 'branch' gives 2 tensors: ask for one of 'branch[0]', 'branch[1]'."


def test_a_tensor_that_a_layer_does_not_give_says_which_it_gives():
    with pytest.raises(LayerError) as caught:
        picked("branch[7]")
    assert str(caught.value) == "The layer 'branch' gives no 'branch[7]': there are 'branch[0]', 'branch[1]'."


def test_a_value_that_can_not_be_labelled_says_why_where_it_was_named():
    seen = {"head": LayerError("was called 2 times in one pass and gave values of different shapes")}
    with pytest.raises(LayerError) as caught:
        picked("head", seen)
    assert str(caught.value) == "The layer 'head' was called 2 times in one pass and gave values of different shapes."


def test_a_value_that_can_not_be_labelled_is_left_out_of_a_glob():
    with pytest.warns(UserWarning, match="'head' odd shapes"):
        assert picked(["head*", "encoder.lstm"], {"head": LayerError("odd shapes"), "encoder.lstm": LSTM}) == {"encoder.lstm": LSTM}
