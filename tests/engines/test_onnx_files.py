"""ONNX files that are broken, hostile or of another kind: one sentence each, in bounded time and memory, nothing printed."""

from __future__ import annotations

import contextlib
import itertools
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import seqscope as sq
from onnx_nets import INPUT, C, floats, recurrent_net, stateful_net, tensor
from seqscope.engines.onnx_graph import Graph
from seqscope.engines.onnx_session import Sessions
from seqscope.errors import ModelError, SeqscopeError
from tolerances import assert_close

Model = onnx.ModelProto
X = np.random.default_rng(0).standard_normal((4, 7, C)).astype(np.float32)
DATA = sq.Sequences(X, layout="NTC")
GIANT = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**40])
SPARSE = helper.make_sparse_tensor(tensor(np.ones(2), "s"), numpy_helper.from_array(np.array([0, 2]), "places"), [C])
GIB = 1 << 30


@pytest.fixture(autouse=True)
def _little_is_printed_and_taken(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No file may take over 2 GiB more than there is before it, or 10 s, or print."""
    limits, began = resource.getrlimit(resource.RLIMIT_AS), time.process_time()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2 * GIB, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.process_time() - began < 10
    assert capfd.readouterr() == ("", "")


def refused(model: Model | bytes, folder: Path) -> str:
    """What is said of a file, which is the same as of the model that it holds; one sentence."""
    path = folder / "net.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        sq.Scope(path)
    said = caught.value.message
    assert "\n" not in said
    assert "Traceback" not in said
    if isinstance(model, Model) and "can't be read" not in said and "holds no ONNX graph" not in said:
        with pytest.raises(ModelError) as again:
            sq.Scope(model)
        assert again.value.message == said
    return str(said)


def changed(change: Callable[[Model], Any], model: Model | None = None) -> Model:
    """A copy of a model that is well, with a fault in it."""
    copy = Model()
    copy.CopyFrom(model or recurrent_net(listed=False).model)
    change(copy)
    return copy


def weight(model: Model, name: str = "lstm_W") -> TensorProto:
    return next(own for own in model.graph.initializer if own.name == name)


def operator(model: Model, op: str = "LSTM") -> Any:
    return next(own for own in model.graph.node if own.op_type == op)


def declared(model: Model, name: str = INPUT) -> Any:
    return next(own for own in model.graph.input if own.name == name).type.tensor_type


def small(nodes: list[Any], weights: list[TensorProto] | None = None, **options: Any) -> Model:
    """`x` (N, T, 3) to `y`."""
    x, y = floats("x", "N", "T", C), floats("y", "N", "T", C)
    graph = helper.make_graph(nodes, "net", [x], [y], weights or [], **options)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def branching(then: list[Any], **options: Any) -> Model:
    """An If whose one branch holds nodes, the last of which gives "r"."""
    branches = [helper.make_graph(then, "then", [], [floats("r")])]
    branches.append(helper.make_graph([helper.make_node("Neg", ["x"], ["e"])], "else", [], [floats("e")]))
    node = helper.make_node("If", ["yes"], ["y"], name="if", then_branch=branches[0], else_branch=branches[1])
    return small([node], [helper.make_tensor("yes", TensorProto.BOOL, [], [True])], **options)


NODE = helper.make_node

FAULTS: dict[str, tuple[Callable[[], Model], str]] = {
    "circle": (
        lambda: small([NODE("Add", ["x", "y"], ["a"], name="one"), NODE("Relu", ["a"], ["y"], name="two")]),
        "goes round in a circle through 'one', 'two'",
    ),
    "no weight": (lambda: changed(lambda m: m.graph.initializer.remove(weight(m))), r"'lstm' \(LSTM\) reads 'lstm_W', which nothing"),
    "no weight inside": (lambda: branching([NODE("Add", ["x", "lost"], ["r"])]), "reads 'lost', which nothing"),
    "circle inside": (lambda: branching([NODE("Add", ["x", "s"], ["r"]), NODE("Relu", ["r"], ["s"])]), "not acyclic"),
    "two nodes of one tensor": (lambda: changed(lambda m: m.graph.node.append(operator(m))), "'lstm_YH'.* more than once"),
    "two weights of one name": (lambda: changed(lambda m: m.graph.initializer.append(weight(m))), "'lstm_W' more than once"),
    "two inputs of one name": (lambda: changed(lambda m: m.graph.input.append(m.graph.input[0])), "'sequenceinput' more than once"),
    "unknown operator": (lambda: changed(lambda m: setattr(operator(m, "Sub"), "op_type", "Subb")), "no operator 'Subb' in opset 14"),
    "unknown domain": (
        lambda: changed(lambda m: (setattr(operator(m), "domain", "com.own"), m.opset_import.append(helper.make_opsetid("com.own", 1)))),
        "has none for the operator 'com.own:LSTM': export",
    ),
    "domain not imported": (lambda: changed(lambda m: setattr(operator(m), "domain", "com.own")), "'com.own:LSTM'"),
    "opset too new": (lambda: changed(lambda m: setattr(m.opset_import[0], "version", 99)), "its opset is 99, and the newest known is 2"),
    "no opset": (lambda: changed(lambda m: m.ClearField("opset_import")), "does not say for which opset"),
    "IR too new": (lambda: changed(lambda m: setattr(m, "ir_version", 99)), "its IR version is 99, the newest known is"),
    "too few bytes": (
        lambda: changed(lambda m: setattr(weight(m), "raw_data", b"1234567890")),
        r"'lstm_W' has the shape \[1, 20, 3\], which takes 240 bytes, and the file holds 10",
    ),
    "too few numbers": (
        lambda: changed(lambda m: (weight(m).ClearField("raw_data"), weight(m).float_data.append(1.0))),
        r"takes 60 numbers, and the file holds 1:",
    ),
    "negative axis": (lambda: changed(lambda m: weight(m).dims.__setitem__(0, -1)), r"\[-1, 20, 3\], and no axis"),
    "giant weight": (lambda: changed(lambda m: weight(m).dims.__setitem__(0, 2**40)), "takes 263,882,790,666,240 bytes"),
    "giant weight in a Constant": (
        lambda: small([NODE("Constant", [], ["w"], value=GIANT), NODE("Add", ["x", "w"], ["y"])]),
        "takes 1,099,511,627,776 numbers",
    ),
    "giant constant": (
        lambda: small(
            [NODE("ConstantOfShape", ["sizes"], ["big"]), NODE("MatMul", ["x", "big"], ["y"])],
            [numpy_helper.from_array(np.array([C, 2**36]), "sizes")],
        ),
        r"'big' is said to have the axes \[3, 68719476736\]",
    ),
    "kind of numbers": (lambda: changed(lambda m: setattr(weight(m), "data_type", 77)), r"'lstm_W' holds numbers of no known kind \(77\)"),
    "kind of input": (lambda: changed(lambda m: setattr(declared(m), "elem_type", 77)), "data type 77"),
    "giant input": (lambda: changed(lambda m: setattr(declared(m).shape.dim[2], "dim_value", 2**40)), "'sequenceinput' is said to have"),
    "giant batch": (lambda: changed(lambda m: setattr(declared(m).shape.dim[1], "dim_value", 2**40)), "more than any memory holds"),
    "giant state": (
        lambda: changed(lambda m: setattr(declared(m, "h").shape.dim[2], "dim_value", 2**40), stateful_net().model),
        "'h' is said to have the axes",
    ),
    "no input": (lambda: changed(lambda m: (m.graph.ClearField("input"), m.graph.initializer.append(tensor(X[0], INPUT)))), "has no input"),
    "no output": (lambda: changed(lambda m: m.graph.ClearField("output")), "is empty: it has no nodes, or no output"),
    "output of nothing": (lambda: changed(lambda m: setattr(m.graph.output[0], "name", "lost")), "output 'lost' is given by no node"),
    "sparse": (
        lambda: small(
            [NODE("Add", ["x", "s"], ["y"])],
            sparse_initializer=[SPARSE],
        ),
        "has sparse weights, which are not read",
    ),
    "wrong attribute": (lambda: changed(lambda m: operator(m).attribute.append(helper.make_attribute("own", 1))), r"'lstm' \(LSTM\)|own"),
    "no attributes": (lambda: changed(lambda m: operator(m).ClearField("attribute")), "hidden_size"),
    "one branch": (
        lambda: changed(lambda m: operator(m, "If").attribute.pop(0), branching([NODE("Relu", ["x"], ["r"])])),
        r"node 'if' \(If\): Required attribute 'else_branch'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_graph_is_refused_in_a_sentence(fault: str, tmp_path: Path) -> None:
    make, said = FAULTS[fault]
    with pytest.raises(ModelError, match=said):
        raise ModelError(refused(make(), tmp_path))


def test_text_and_inputs_of_many_axes(tmp_path: Path) -> None:
    text = small([NODE("Identity", ["x"], ["y"])])
    for own in (text.graph.input[0], text.graph.output[0]):
        own.type.tensor_type.elem_type = TensorProto.STRING
    assert "None of the graph's inputs ('x') is a sequence" in refused(text, tmp_path)
    wide = small([NODE("Relu", ["x"], ["y"])])
    for own in (wide.graph.input[0], wide.graph.output[0]):
        own.type.tensor_type.shape.dim.extend([onnx.TensorShapeProto.Dimension()] * 3)
    assert "has 6 axes" in refused(wide, tmp_path)


def test_lists_of_tensors_are_no_sequences(tmp_path: Path) -> None:
    listed = helper.make_tensor_sequence_value_info("xs", TensorProto.FLOAT, ["N", C])
    graph = helper.make_graph([NODE("ConcatFromSequence", ["xs"], ["y"], axis=0)], "net", [listed], [floats("y", "N", C)])
    said = refused(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), tmp_path)
    assert "None of the graph's inputs ('xs') is a sequence" in said


@pytest.mark.parametrize("content", [b"", b"\0" * 200, b"<html></html>", b"PK\x03\x04", np.random.default_rng(0).bytes(4000)])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    refused(content, tmp_path)


def test_a_file_cut_short_anywhere_is_refused_or_whole(tmp_path: Path) -> None:
    model = recurrent_net().model
    content = model.SerializeToString()
    expected = sq.Scope(model).predict(DATA)
    path = tmp_path / "net.onnx"
    for end in range(0, len(content), 97):
        path.write_bytes(content[:end])
        with contextlib.suppress(SeqscopeError):
            assert_close(sq.Scope(path).predict(DATA), expected, "float32")


@pytest.mark.parametrize("seed", range(40))
def test_bytes_that_were_changed_raise_nothing_else(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    content = bytearray(recurrent_net().model.SerializeToString())
    for place in random.integers(0, len(content), 3):
        content[place] = random.integers(0, 256)
    (tmp_path / "net.onnx").write_bytes(content)
    with contextlib.suppress(SeqscopeError):
        scope = sq.Scope(tmp_path / "net.onnx")
        _ = scope.layers
        scope.activations(DATA[:1])


# What grows


def nested(depth: int) -> bytes:
    """An If in an If in an If, by its bytes: `onnx` copies each graph into the next one."""

    def number(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)

    def field(place: int, content: bytes) -> bytes:
        return number(place << 3 | 2) + number(len(content)) + content

    node = field(4, b"Relu") + field(1, b"x") + field(2, b"y")
    for place in range(depth):
        branch = field(1, b"then_branch") + field(6, field(1, node)) + number(20 << 3) + number(5)
        node = field(4, b"If") + field(1, b"x") + field(2, f"y{place}".encode()) + field(5, branch)
    graph = field(1, node) + field(2, b"g") + field(11, field(1, b"x")) + field(12, field(1, f"y{depth - 1}".encode()))
    return field(7, graph) + number(1 << 3) + number(8) + field(8, number(2 << 3) + number(14))


@pytest.mark.parametrize("depth", [5, 30, 40, 400, 4000])
def test_graphs_in_graphs_in_graphs(depth: int, tmp_path: Path) -> None:
    assert "can't" in refused(nested(depth), tmp_path)


def calling(*calls: tuple[str, int]) -> Model:
    """Functions f0, f1, ..., each of which calls another one so many times."""
    own = [helper.make_opsetid("", 14), helper.make_opsetid("own", 1)]
    functions = []
    for place, (called, times) in enumerate(calls):
        names = ["a", *(f"m{turn}" for turn in range(times - 1)), "b"]
        domain = "own" if called.startswith("f") else ""
        nodes = [NODE(called, [before], [after], domain=domain) for before, after in itertools.pairwise(names)]
        functions.append(helper.make_function("own", f"f{place}", ["a"], ["b"], nodes, own))
    return changed(
        lambda m: (m.functions.extend(functions), m.opset_import.append(own[1])), small([NODE("f0", ["x"], ["y"], domain="own")])
    )


def test_functions_that_call_each_other_in_a_circle_or_without_end(tmp_path: Path) -> None:
    assert "call each other in a circle" in refused(calling(("f1", 1), ("f0", 1)), tmp_path)
    bomb = calling(*((f"f{place + 1}", 2) for place in range(30)), ("Relu", 2))
    assert "nodes once its functions are put in, and at most 200,000 are read" in refused(bomb, tmp_path)
    scope = sq.Scope(calling(("f1", 2), ("Relu", 2)), layout="NTC")
    assert [row.type for row in scope.layers] == ["Relu"] * 4


# Weights in files of their own


def beside(folder: Path, **said: Any) -> Path:
    """A model whose lstm_W lies in `weights.bin`, or where it is said to lie."""
    model = recurrent_net(listed=False).model
    own = weight(model)
    (folder / "weights.bin").write_bytes(own.raw_data)
    own.ClearField("raw_data")
    own.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", **said}.items():
        own.external_data.add(key=key, value=str(value))
    onnx_path = folder / "net.onnx"
    onnx_path.write_bytes(model.SerializeToString())
    return onnx_path


def test_weights_in_a_file_beside_the_model(tmp_path: Path) -> None:
    path = beside(tmp_path)
    expected = sq.Scope(recurrent_net(listed=False).model)
    scope = sq.Scope(path)
    assert_close(scope.predict(DATA), expected.predict(DATA), "float32")
    assert [row.n_params for row in scope.layers] == [row.n_params for row in expected.layers]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"location": "lost.bin"}, "'lost.bin', and that is not beside it"),
        ({"location": "../../../etc/passwd"}, "outside of its own folder"),
        ({"location": "/etc/passwd"}, "outside of its own folder"),
        ({"location": ""}, "can't|not beside"),
        ({"location": "."}, "can't|not beside"),
        ({"location": "a\0b"}, "lstm_W"),
        ({"offset": 2**40}, "lstm_W"),
        ({"length": 2**50}, "lstm_W"),
        ({"length": 8}, "takes 240 bytes, and the file holds 8"),
        ({"offset": -4}, "lstm_W"),
        ({"offset": "much"}, "lstm_W"),
    ],
)
def test_weights_that_are_not_there(said: dict[str, Any], why: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(ModelError, match=why) as caught:
        sq.Scope(beside(tmp_path / "models", **said))
    assert "\n" not in caught.value.message


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(240))
    (tmp_path / "models" / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="outside of its own folder"):
        sq.Scope(beside(tmp_path / "models", location="link.bin"))


def test_a_model_object_without_its_weights(tmp_path: Path) -> None:
    model = onnx.load(beside(tmp_path), load_external_data=False)
    with pytest.raises(ModelError, match=r"'lstm_W' lies in a file of its own, .*: give Scope the path"):
        sq.Scope(model)


# What is kept


def test_names_that_a_branch_has_again_are_its_own(tmp_path: Path) -> None:
    """A weight of a branch hides that of the same name around it."""
    model = branching([NODE("Mul", ["x", "w"], ["r"])])
    operator(model, "If").attribute[1].g.initializer.append(tensor(np.array(3.0), "w"))
    model.graph.initializer.append(tensor(np.array(2.0), "w"))
    model.graph.node.append(NODE("Mul", ["y", "w"], ["z"], name="twice"))
    model.graph.output[0].name = "z"
    assert_close(sq.Scope(model, layout="NTC").predict(DATA), X * 6, "float32")


def test_sizes_that_are_written_as_0_or_less_are_open() -> None:
    for size in (0, -1):
        model = changed(lambda m, size=size: [setattr(dim, "dim_value", size) for dim in declared(m).shape.dim[:2]])
        assert_close(sq.Scope(model).predict(DATA), sq.Scope(recurrent_net(listed=False).model).predict(DATA), "float32")


def test_sessions_are_kept_and_large_weights_are_shared() -> None:
    model = small([NODE("MatMul", ["x", "w"], ["wide"]), NODE("ReduceSum", ["wide"], ["y"])], [tensor(np.ones((C, 400)), "w")])
    graph = Graph(model)
    assert graph.large == {"w"}
    sessions = Sessions(graph)
    assert sessions.session(["x"], ["y"]) is sessions.session(["x"], ["y"])
    assert_close(sessions.run({"x": X}, ["wide"])["wide"], X @ np.ones((C, 400)), "float32")
    assert len(sessions._weights) == 1
