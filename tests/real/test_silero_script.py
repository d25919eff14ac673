"""A network from elsewhere: Silero's voice detector (silero-vad, MIT) as a TorchScript program that keeps its state from call to call."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import seqscope as sq

FOUND = find_spec("silero_vad")
if FOUND is None or FOUND.origin is None:
    pytest.skip("silero-vad is not installed", allow_module_level=True)
DATA = Path(FOUND.origin).parent / "data"
RATE, FRAME, CONTEXT = 16000, 512, 64


def frames(n=24):
    """Silence, then something like a vowel (pulses at 120 Hz through resonances), in frames of 512: (frame, step)."""
    time = np.arange(n * FRAME) / RATE
    voice = sum(np.sin(2 * np.pi * 120 * k * time) * np.exp(-(((120 * k - 600) / 400) ** 2)) for k in range(1, 30))
    voice = voice * (1 + 0.5 * np.sin(2 * np.pi * 4 * time)) * (time > time[len(time) // 2])
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(time))
    return (0.2 * voice / 4 + noise).astype(np.float32).reshape(n, FRAME)


def one_after_the_other(program, batch, lengths):
    """Feed frames as the package does, which keeps 64 steps of context and the state in the program."""
    return torch.stack([program(batch[:, frame], RATE)[:, 0] for frame in range(batch.shape[1])], 1)


@pytest.fixture(scope="module")
def scope():
    return sq.Scope(DATA / "silero_vad.jit", call=one_after_the_other, layout="NTC")


def test_probabilities_are_those_of_the_onnx_form(scope):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(DATA / "silero_vad.onnx", providers=["CPUExecutionProvider"])
    state, context, expected = np.zeros((2, 1, 128), np.float32), np.zeros((1, CONTEXT), np.float32), []
    for frame in frames():
        x = np.concatenate([context, frame[None]], axis=1)
        given, state = session.run(None, {"input": x, "state": state, "sr": np.array(RATE)})
        expected.append(float(given[0, 0]))
        context = x[:, -CONTEXT:]
    found = scope.predict(frames()[None])
    assert found.shape == (1, 24, 1)
    np.testing.assert_allclose(found[0, :, 0], expected, atol=1e-4)
    assert max(expected) > 5 * expected[4]  # what is fed is told apart at all


def test_state_is_as_it_was_and_no_sequence_sees_another(scope):
    program, x = scope.model, np.stack([frames(), frames()[::-1]])
    program(torch.tensor(x[0, :1]), RATE)
    kept, count = program._state, program._last_batch_size
    before = kept.clone()
    together = scope.predict(x)
    assert program._state is kept
    assert torch.equal(kept, before)
    assert program._last_batch_size == count == 1
    program.reset_states()
    np.testing.assert_allclose(together[1], scope.predict(x[1:])[0], atol=1e-6)


def test_frames_are_perturbed(scope):
    found = scope.attribute(frames(6)[None], "occlusion", target=lambda output: output[:, -1])
    assert found.sizes["time"] == 6
    assert np.isfinite(found).all()
    assert float(abs(found).max()) > 0


def test_table_and_inside(scope):
    layers = {layer.name: layer for layer in scope.layers}
    assert layers["_model.decoder.rnn"].description == "LSTMCell with 128 hidden units"
    assert layers["_model.encoder.0.reparam_conv"].n_params == 128 * 129 * 3 + 128
    for ask in (
        lambda: scope.states(frames()[None], "_model.decoder.rnn"),
        lambda: scope.activations(frames()[None], "_model.decoder.rnn"),
    ):
        with pytest.raises(sq.errors.SeqscopeError, match="export the model to ONNX"):
            ask()


def test_weights_alone_say_what_they_are():
    with pytest.raises(sq.errors.ModelError, match=r"holds weights alone, \d+ tensors: 'stft_conv.weight', .*weights="):
        sq.Scope(DATA / "silero_vad_16k.safetensors")
