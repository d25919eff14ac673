import pickle
import sys

import pytest

from seqscope import errors
from seqscope.errors import DataError, LayerError, MissingPackageError, ModelError, SampleError, SeqscopeError, UnsupportedError

LEAVES = [
    (DataError, ValueError),
    (SampleError, IndexError),
    (ModelError, ValueError),
    (LayerError, LookupError),
    (UnsupportedError, SeqscopeError),
    (errors.TooLargeError, SeqscopeError),
    (errors.OutputExistsError, FileExistsError),
    (errors.BusyError, SeqscopeError),
    (MissingPackageError, ImportError),
]


@pytest.mark.parametrize(("error", "builtin"), LEAVES, ids=lambda kind: kind.__name__)
def test_every_error_is_caught_as_seqscopes_and_as_pythons_own(error, builtin):
    with pytest.raises(SeqscopeError):
        raise error("what went wrong")
    with pytest.raises(builtin, match=r"^what went wrong$"):
        raise error("what went wrong")


@pytest.mark.parametrize("error", [error for error, _ in LEAVES], ids=lambda kind: kind.__name__)
def test_an_error_comes_whole_out_of_another_process(error):
    with pytest.raises(error) as caught, errors.in_call(lambda: "predict(X) of Net"):
        raise error("what went wrong")
    there = pickle.loads(pickle.dumps(caught.value))
    assert type(there) is error
    assert str(there) == str(caught.value) == "what went wrong\n  in predict(X) of Net"
    assert there.message == "what went wrong"


@pytest.mark.parametrize("error", [error for error, _ in LEAVES], ids=lambda kind: kind.__name__)
def test_an_error_can_be_made_as_dask_makes_those_of_its_workers(error):
    """By `__new__` and then the attributes, as tblib does, which `distributed` installs."""
    sent = error("what went wrong")
    received = error.__new__(error, *sent.args)
    received.__dict__.update(sent.__dict__)
    assert str(received) == "what went wrong"


def test_the_call_is_named_once_by_the_innermost_verb():
    with pytest.raises(DataError) as caught, errors.in_call(lambda: "outer"), errors.in_call(lambda: "inner"):
        raise DataError("bad")
    assert str(caught.value) == "bad\n  in inner"


def test_the_call_is_described_only_when_something_goes_wrong():
    def describe():
        raise AssertionError("described a call that went well")

    with errors.in_call(describe):
        done = True
    assert done


def test_other_peoples_errors_pass_through_as_they_are():
    original = ZeroDivisionError("theirs")
    with pytest.raises(ZeroDivisionError) as caught, errors.in_call(lambda: "predict"):
        raise original
    assert caught.value is original
    assert str(caught.value) == "theirs"


def test_a_short_message_gets_its_layers_name():
    with pytest.raises(LayerError) as caught, errors.about_layer("encoder.lstm"):
        raise LayerError("never ran")
    assert str(caught.value) == "The layer 'encoder.lstm' never ran."
    assert str(caught.value.__cause__) == "never ran"


def test_only_errors_about_layers_get_a_layers_name():
    with pytest.raises(DataError, match=r"^bad data$"), errors.about_layer("lstm"):
        raise DataError("bad data")


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("lstn", ["lstm", "fc", "softmax"], "the nearest is 'lstm'"),
        ("lstm", ["lstm_one", "lstm2", "fc"], "the nearest are 'lstm2', 'lstm_one'"),
        ("zzz", ["lstm", "fc"], "there are 'lstm', 'fc'"),
        ("zzz", ["lstm"], "there is 'lstm'"),
        ("zzz", [], "there are none"),
        ("zzz", ["fc", "fc"], "there is 'fc'"),
        ("zzz", [f"unit{place}" for place in range(15)], "there are " + ", ".join(f"'unit{n}'" for n in range(12)) + " and 3 more"),
    ],
)
def test_the_nearest_names_end_a_sentence(name, known, said):
    assert errors.nearest(name, known) == said


def test_no_more_of_the_nearest_names_than_asked_for():
    assert errors.nearest("lstm", ["lstm1", "lstm2", "lstm3", "lstm4"], most=2).count("'") == 4


def test_a_long_list_of_names_is_counted_and_not_listed():
    assert errors.quoted("abc") == "'a', 'b', 'c'"
    assert errors.quoted((letter for letter in "abc"), most=2) == "'a', 'b' and 1 more"
    assert errors.quoted([]) == ""


def test_a_package_that_is_there_is_imported():
    assert errors.require("json.decoder", extra="none", purpose="Reading").JSONDecoder is not None


def test_a_missing_package_is_named_with_the_line_that_installs_it():
    with pytest.raises(MissingPackageError) as caught:
        errors.require("no_such_package_at_all.inside", extra="onnx", purpose="Opening an ONNX file")
    assert str(caught.value) == (
        "Opening an ONNX file needs the package 'no_such_package_at_all', which is not installed: pip install 'seqscope[onnx]'"
    )


def test_a_submodule_that_is_missing_counts_as_its_package():
    with pytest.raises(MissingPackageError, match="'json'"):
        errors.require("json.no_such_part", extra="torch", purpose="It")


def test_a_package_that_lacks_one_of_its_own_needs_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import its_own_missing_need\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError) as caught:
        errors.require("half_installed", extra="torch", purpose="It")
    assert not isinstance(caught.value, SeqscopeError)
    assert caught.value.name == "its_own_missing_need"
    assert "half_installed" not in sys.modules


def test_warnings_are_heard_in_the_thread_that_asks_alone():
    from concurrent.futures import ThreadPoolExecutor

    from seqscope.errors import hearing, warn

    with hearing() as heard, ThreadPoolExecutor(1) as other:
        warn("Here.")
        with pytest.warns(UserWarning, match="There"):
            other.submit(warn, "There.").result()
    assert heard == ["Here."]
    with pytest.warns(UserWarning, match="After"):
        warn("After.")
