"""A network from elsewhere: Silero's voice detector (PyPI's `silero-vad`, MIT) in the six ONNX forms that the package holds.

`speech.npz` is "hello there" and "good morning to you" by Debian's espeak-ng (`espeak-ng -v en-us -s 150 --stdout`, resampled from 22050 Hz
to 16 kHz by `scipy.signal.resample_poly(speech, 320, 441)`, at most 0.6), with silence before (0.5 s), between (0.8 s), after (0.6 s) and
noise of 0.0002 over all, as whole numbers of 1/4096. The network takes frames of 576 steps: the last 64 of the frame before, and 512 new.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

import seqscope as sq

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

FOUND = find_spec("silero_vad")
if FOUND is None or FOUND.origin is None:
    pytest.skip("silero-vad is not installed", allow_module_level=True)
DATA = Path(FOUND.origin).parent / "data"
RATE, NEW, CONTEXT = 16000, 512, 64
SPOKEN = [(17, 40), (68, 96)]  # frames in which someone speaks, those at the borders aside
SILENT = [(0, 14), (46, 65), (100, 116)]
GATES = ["i", "f", "g", "o"]

# Each form, with the layer that has the states at 16 kHz.
SEQUENCE = "silero_vad_16k_sequence"
LSTMS = {
    SEQUENCE: "/recurrent/LSTM",
    "silero_vad": "If_0_then_branch__Inline_0__/decoder/rnn/LSTM",
    "silero_vad_16k_op15": "/model/decoder/rnn/LSTM",
    "silero_vad_op18_ifless": "node_cond__1.then_branch.lstm",
    "silero_vad_openvino_16k": "F2::If_0_then_branch__Inline_0__/decoder/rnn/LSTM",
    "silero_vad_half": "/decoder/rnn/LSTM",
}
SAME_WEIGHTS = [form for form in LSTMS if form != "silero_vad_half"]
# Those that want to know the rate: some take 8 kHz too.
WITH_RATE = ("silero_vad", "silero_vad_16k_op15", "silero_vad_op18_ifless")


def open_form(form):
    at_rate = (lambda model, batch, lengths: model(batch, sr=RATE)) if form in WITH_RATE else None
    return sq.Scope(DATA / f"{form}.onnx", call=at_rate)


@pytest.fixture(scope="module")
def scopes():
    return {form: open_form(form) for form in LSTMS}


@pytest.fixture(scope="module")
def sound():
    with np.load(Path(__file__).parent / "speech.npz") as file:
        return file["steps"].astype(np.float32) / 4096


@pytest.fixture(scope="module")
def frames(sound):
    """(sample, time, channel), one sample."""
    before = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    return np.stack([before[first : first + CONTEXT + NEW] for first in range(0, len(sound), NEW)])[None]


def session_of(model):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def inputs(frames):
    """What the LSTM reads, (time, channel), from a copy of the file that gives it."""
    model = onnx.load(DATA / f"{SEQUENCE}.onnx")
    model.graph.output.append(onnx.ValueInfoProto(name="/Transpose_output_0"))
    nothing = np.zeros((1, 1, 128), np.float32)
    (found,) = session_of(model.SerializeToString()).run(["/Transpose_output_0"], {"input": frames[0], "h": nothing, "c": nothing})
    return found[:, 0]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


@pytest.fixture(scope="module")
def expected(inputs):
    """Every state by the equations in float64, from the weights in the file."""
    (node,) = (node for node in onnx.load(DATA / f"{SEQUENCE}.onnx").graph.node if node.op_type == "LSTM")
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(DATA / f"{SEQUENCE}.onnx").graph.initializer}
    w, u, both = (held[name][0].astype(float) for name in node.input[1:4])
    b, v = np.split(both, 2)
    h, c, found = np.zeros(128), np.zeros(128), []
    for x in inputs.astype(float):
        i, o, f, g = np.split(w @ x + b + u @ h + v, 4)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        found.append({"h": h, "c": c, "i": i, "f": f, "g": g, "o": o})
    return {name: np.stack([states[name] for states in found]) for name in found[0]}


def own_run(form, frames):
    """Probabilities, h and c at each frame, as onnxruntime carries them through the unchanged file."""
    session, state, found = session_of(DATA / f"{form}.onnx"), np.zeros((2, 1, 128), np.float32), []
    more = {"sr": np.array(RATE)} if form in WITH_RATE else {}
    for frame in frames[0]:
        given, state = session.run(["output", "stateN"], {"input": frame[None], "state": state, **more})
        found.append((given[0, 0], state[0, 0], state[1, 0]))
    return tuple(np.stack(own) for own in zip(*found, strict=True))


def states_of(scope, X, layer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return scope.states(X, layer)


# Probabilities


def test_probabilities_are_the_same_in_all_forms_and_tell_speech_from_silence(scopes, frames):
    found = {form: scope.predict(frames).squeeze(drop=True).values for form, scope in scopes.items()}
    for form in SAME_WEIGHTS:
        np.testing.assert_allclose(found[form], found[SEQUENCE], atol=1e-5, err_msg=form)
    for own in (found[SEQUENCE], found["silero_vad_half"]):
        assert min(own[first:end].min() for first, end in SPOKEN) > 0.7
        assert max(own[first:end].max() for first, end in SILENT) < 0.1


# States


@pytest.mark.parametrize("form", SAME_WEIGHTS)
def test_states_are_those_of_the_equations(scopes, frames, expected, form):
    found = states_of(scopes[form], frames[:, :50], LSTMS[form])
    assert set(found.data_vars) == {"h", "c", *GATES}
    for name, values in expected.items():
        assert found[name].dims == ("sample", "time", "unit")
        np.testing.assert_allclose(found[name][0], values[:50], atol=1e-4, err_msg=name)
    assert found.attrs["layer"] == LSTMS[form]


@pytest.mark.parametrize("form", ["silero_vad", "silero_vad_op18_ifless", "silero_vad_half"])
def test_probabilities_and_states_are_those_that_the_file_itself_carries(scopes, frames, form):
    probabilities, h, c = own_run(form, frames)
    found = states_of(scopes[form], frames, LSTMS[form])[{"sample": 0}]
    np.testing.assert_allclose(scopes[form].predict(frames)[0, :, 0], probabilities, atol=1e-6)
    np.testing.assert_allclose(found.h, h, atol=1e-5)
    np.testing.assert_allclose(found.c, c, atol=1e-5)
    i, f, g, o = (found[name].values.astype(float) for name in GATES)
    before = np.concatenate([np.zeros_like(c[:1]), c[:-1]]).astype(float)
    np.testing.assert_allclose(f * before + i * g, c, atol=1e-5)
    np.testing.assert_allclose(o * np.tanh(c.astype(float)), h, atol=1e-5)


def test_memory_is_what_the_gates_wrote(scopes, frames, expected):
    written = scopes["silero_vad"].memory(frames[:, :20], LSTMS["silero_vad"]).written
    # what a step wrote is weakened by every forget gate behind it
    kept = np.stack([expected["f"][step + 1 : 20].prod(axis=0) for step in range(20)])
    np.testing.assert_allclose(written[0], (expected["i"] * expected["g"])[:20] * kept, atol=1e-4)


# Branches


def test_branches_that_were_not_taken_are_named(scopes, frames):
    scope, few = scopes["silero_vad"], frames[:, :8]
    asleep = LSTMS["silero_vad"].replace("then", "else")
    for ask in (scope.states, scope.activations):
        with pytest.raises(sq.errors.LayerError, match=r"never ran for this input \(inside a branch that was not taken") as caught:
            ask(few, asleep)
        assert asleep in str(caught.value)
        assert "forward" not in str(caught.value)
    with pytest.raises(sq.errors.LayerError, match="inside a branch that was not taken"):
        scope.states(few, "*else*LSTM")
    with pytest.warns(UserWarning, match="never ran for this input.*If_0_else_branch__Inline_0__/decoder/rnn_1/LSTM"):
        found = scope.states(few)
    assert [node.attrs["layer"] for node in found.leaves] == [LSTMS["silero_vad"]]


def test_eight_kilohertz_run_the_other_branch(sound):
    def slowly(model, batch, lengths):
        return model(batch, sr=8000)

    halved = np.concatenate([np.zeros(CONTEXT // 2, np.float32), sound.reshape(-1, 2).mean(1)])
    X = np.stack([halved[first : first + 288] for first in range(0, len(halved) - 32, 256)])[None]
    scope = sq.Scope(DATA / "silero_vad.onnx", call=slowly)
    found = scope.predict(X)[0, :, 0].values
    assert min(found[first:end].mean() for first, end in SPOKEN) > 0.5
    assert max(found[first:end].max() for first, end in SILENT) < 0.5
    assert states_of(scope, X[:, :8], LSTMS["silero_vad"].replace("then", "else")).sizes["unit"] == 128
    with pytest.raises(sq.errors.LayerError, match="inside a branch"):
        scope.states(X[:, :8], LSTMS["silero_vad"])


def test_without_the_rate_it_says_how_to_give_it(frames):
    with pytest.raises(sq.errors.ModelError, match=r"of 'sr' \(int64, one number\) nothing is known.*model\(batch, sr=\.\.\.\)"):
        sq.Scope(DATA / "silero_vad.onnx").predict(frames)


# Layers


def test_table_counts_what_the_file_holds(frames):
    scope = open_form(SEQUENCE)
    scope.predict(frames[:, :12])
    rows = {layer.name: layer for layer in scope.layers}
    held = [tensor for tensor in onnx.load(DATA / f"{SEQUENCE}.onnx").graph.initializer if len(tensor.dims) > 0]
    assert sum(layer.n_params for layer in rows.values()) == sum(int(np.prod(tensor.dims)) for tensor in held)
    lstm, conv = rows["/recurrent/LSTM"], rows["/encoder.0/Conv"]
    assert (lstm.kind, lstm.description, lstm.n_params) == ("lstm", "LSTM with 128 hidden units", 4 * 128 * (128 + 128 + 2))
    assert (conv.kind, conv.n_params) == ("conv1d", 128 * 129 * 3 + 128)


def test_table_says_which_branch_was_not_reached(frames):
    scope = open_form("silero_vad")
    scope.predict(frames[:, :8])
    outputs = {layer.name: layer.output for layer in scope.layers}
    assert outputs[LSTMS["silero_vad"]] == "time 8 x unit 128"
    assert outputs[LSTMS["silero_vad"].replace("then", "else")] == "not reached"


def test_frames_of_another_rate_are_no_matter_of_what_a_layer_takes(frames):
    with pytest.raises(sq.errors.SeqscopeError) as caught:
        sq.Scope(DATA / "silero_vad.onnx", call=lambda model, batch, lengths: model(batch, sr=8000)).predict(frames[:, :8])
    assert "takes 128" not in str(caught.value)
    assert "onnxruntime" in str(caught.value)


def test_activations_are_those_that_onnxruntime_gives(scopes, frames, inputs):
    scope = scopes[SEQUENCE]
    conv = scope.activations(frames, "/encoder.3/Conv")
    assert conv.dims[:2] == ("sample", "time")
    assert conv.shape == (1, frames.shape[1], 128, 1)
    np.testing.assert_allclose(np.maximum(conv[0, ..., 0], 0), inputs, atol=1e-6)
    by_tensor = scope.activations(frames, "/Transpose_output_0")  # no layer: a tensor by its own name
    np.testing.assert_allclose(by_tensor[0], inputs, atol=1e-6)


def test_an_axis_that_is_the_operators_own_sample_axis_is_taken_for_it(scopes, frames, expected):
    for name in ("/recurrent/LSTM", "/Relu_4", "/output/Conv", "/Transpose_output_0"):
        assert scopes[SEQUENCE].activations(frames, name).dims == ("sample", "time", "unit"), name
    np.testing.assert_allclose(scopes[SEQUENCE].activations(frames, "/Relu_4")[0], np.maximum(expected["h"], 0), atol=1e-5)


# Frame by frame, and perturbed


@pytest.mark.parametrize("form", [SEQUENCE, "silero_vad", "silero_vad_op18_ifless", "silero_vad_openvino_16k"])
def test_frame_by_frame_is_the_whole(scopes, frames, expected, form):
    few, layer = frames[:, :40], LSTMS[form]
    with scopes[form].stream(check=few[:, :12], states=[layer]) as stream:
        seen = [stream.step(frame) for frame in few[0]]
    found = np.array([float(step.output.values.item()) for step in seen])
    np.testing.assert_allclose(found, scopes[form].predict(few).values.ravel(), atol=1e-6)
    for name in ("c", "f"):
        np.testing.assert_allclose(np.stack([step.states[layer][name].values for step in seen]), expected[name][:40], atol=1e-4)


@pytest.mark.parametrize("form", [SEQUENCE, "silero_vad"])
def test_occlusion_finds_the_frames_that_speak(scopes, frames, form):
    few = frames[:, 10:22]  # speech begins at the seventh
    scope = scopes[form]
    found = scope.attribute(few, "occlusion", channels="all", target=lambda output: output.reshape(-1, 12)[:, -1])
    assert found.dims == ("sample", "time", "channel")
    last = few.copy()
    last[:, -1] = 0
    by_hand = scope.predict(few).values.ravel()[-1] - scope.predict(last).values.ravel()[-1]
    np.testing.assert_allclose(found[0, -1, 0], by_hand, atol=1e-6)
    with pytest.raises(sq.errors.UnsupportedError, match=r"derivatives.*'occlusion'"):
        scope.attribute(few, "saliency")


# A picture


def test_what_it_says_is_drawn_over_the_memory(scopes, frames):
    layer = LSTMS["silero_vad"]
    probability = scopes["silero_vad"].predict(frames)[0]
    states = states_of(scopes["silero_vad"], frames, layer)[{"sample": 0}]
    _, (above, below) = plt.subplots(2, figsize=(9, 5), layout="constrained")
    sq.plot.series(probability, ax=above)
    sq.plot.heatmap(states.h, ax=below)
    np.testing.assert_allclose(above.lines[0].get_ydata(), probability.values.ravel())
    image = next(own for own in (*below.images, *below.collections) if own.get_array() is not None)
    assert np.size(image.get_array()) == frames.shape[1] * 128
    loudness = np.sqrt((sq.Sequences(frames)[0] ** 2).mean("channel"))  # one number for each frame
    drawn = sq.plot.states(loudness, states, unit=3)
    lines = [line.get_ydata() for axes in drawn.values() for line in axes.lines if len(line.get_ydata()) == frames.shape[1]]
    for wanted in (loudness, *(states[name][:, 3] for name in ("h", "c", *GATES))):
        assert any(np.allclose(line, wanted) for line in lines), wanted.name
    plt.close("all")
