"""A model is left as it was by every verb, after an exception and Ctrl-C too, and several threads may use it."""

import contextlib
import copy
import random
import threading
from collections import OrderedDict, defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import reference as ref
import seqscope as sq
from nets import series
from seqscope.engines.torch_state import as_it_was
from tolerances import assert_close


def use(model, x, **options):
    """Every verb, on data of several lengths."""
    scope = sq.Scope(model, **options)
    assert len(scope.layers)
    scope.predict(x)
    scope.activations([*x, x[0][:2]])


HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_state_dict_hooks",
)


def state_of(model):
    """All of a model that a verb could change, as plain values."""
    return {
        "modes": {name: part.training for name, part in model.named_modules()},
        "hooks": {name: [dict(getattr(part, kind)) for kind in HOOKS] for name, part in model.named_modules()},
        "weights": {name: tensor.detach().clone() for name, tensor in model.named_parameters()},
        "same weights": {name: id(tensor) for name, tensor in model.named_parameters()},
        "grads": {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "buffers": {name: tensor.clone() for name, tensor in model.named_buffers()},
        "same buffers": {name: id(tensor) for name, tensor in model.named_buffers()},
        "attributes": {name: set(vars(part)) for name, part in model.named_modules()},
    }


def assert_same(before, after):
    assert before.keys() == after.keys()
    for kind in before:
        assert before[kind].keys() == after[kind].keys(), kind
        for name, value in before[kind].items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, after[kind][name]), (kind, name)
            else:
                assert value == after[kind][name], (kind, name)


@contextlib.contextmanager
def unchanged(model):
    """The model, the random states and the global flags are the same at the end, whatever happens inside."""
    before, world = state_of(model), world_of()
    try:
        yield
    finally:
        assert_same(before, state_of(model))
        assert_same({"world": world}, {"world": world_of()})


def world_of():
    of_numpy = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "numpy": (of_numpy[0], of_numpy[1].tolist(), *of_numpy[2:]),
        "python": random.getstate(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "anomaly": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


class Full(nn.Module):
    """Dropout, batch norm, a stack, an in-place ReLU: whatever a mode or a pass could change."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, padding="same")
        self.norm = nn.BatchNorm1d(4)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.rnn = nn.LSTM(4, 5, num_layers=2, dropout=0.5, batch_first=True)
        self.fc = nn.Linear(5, 2)

    def forward(self, x):
        x = self.dropout(self.relu(self.norm(self.conv(x.transpose(1, 2)))))
        return self.fc(self.rnn(x.transpose(1, 2))[0][:, -1])


def trained():
    """In training mode but for two modules, with gradients, one weight frozen, and hooks of the person's own."""
    model = Full().double().train()
    model(torch.tensor(series())).sum().backward()
    model.norm.eval()
    model.dropout.eval()
    model.conv.weight.requires_grad_(False)
    return model


@pytest.mark.parametrize("grad", [True, False])
def test_model_is_left_as_it_was(grad):
    model = trained()
    with torch.set_grad_enabled(grad), unchanged(model):
        use(model, series())


def test_evaluation_mode_is_what_runs():
    model = trained()
    expected = copy.deepcopy(model).eval()(torch.tensor(series())).detach()
    assert_close(sq.Scope(model).predict(series()), expected)


def test_transformer_encoder_keeps_its_switches():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1).double()
    assert encoder.use_nested_tensor
    with unchanged(encoder):
        use(encoder, series(n_channels=4))
    assert encoder.use_nested_tensor
    assert encoder.enable_nested_tensor


def test_overridden_eval_and_train_are_not_called():
    class Merging(nn.Linear):
        def train(self, mode=True):
            raise AssertionError("merging weights takes a call of train()")

    model = nn.Sequential(nn.Conv1d(3, 4, 3, padding="same"), nn.Flatten(2)).double()
    model.append(Merging(9, 2).double())
    sq.Scope(model, layout="NCT").predict(series().transpose(0, 2, 1))
    assert model[2].training


def test_own_hooks_stay_and_work_and_ours_go():
    model, seen = trained().eval(), []
    model.fc.register_forward_hook(lambda module, args, value: value * 10)
    model.rnn.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    model.rnn.register_full_backward_hook(lambda module, grad_in, grad_out: None)
    expected = copy.deepcopy(model)(torch.tensor(series())).detach()
    with unchanged(model):
        assert_close(sq.Scope(model).activations(series(), "fc"), expected)
        assert_close(sq.Scope(model).predict(series()), expected)
    assert seen
    assert len(model.fc._forward_hooks) == 1


def test_hook_that_takes_itself_away_is_still_there():
    model = trained()

    def once(module, args, value):
        handle.remove()

    handle = model.fc.register_forward_hook(once)
    with unchanged(model):
        use(model, series())


def test_later_backward_works_with_what_was_cached_inside():
    class Cached(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.table = nn.GRU(3, 3, batch_first=True), None
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x):
            if self.table is None:
                self.table = torch.exp(self.scale)
            return self.rnn(x * self.table)[0][:, -1]

    model, x = Cached().double(), series()
    use(model, x)
    assert model.table is None
    model(torch.tensor(x)).sum().backward()
    assert (model.scale.grad != 0).all()
    for parameter in model.parameters():
        assert parameter.grad is not None


def test_backward_through_a_graph_made_before_still_works():
    model = Full().double().eval()
    output = model(torch.tensor(series())).sum()
    use(model, series())
    output.backward()
    twin = copy.deepcopy(model)
    twin.zero_grad()
    twin(torch.tensor(series())).sum().backward()
    for parameter, again in zip(model.parameters(), twin.parameters(), strict=True):
        assert_close(parameter.grad, again.grad)


# What a model writes into itself while it runs


class Writing(nn.Module):
    """A GRU that does `write(self, hidden)` in every pass."""

    def __init__(self, write, **attributes):
        super().__init__()
        self.rnn, self.write = nn.GRU(3, 5, batch_first=True), write
        self.register_buffer("mean", torch.zeros(5))
        self.register_buffer("count", torch.tensor(0), persistent=False)
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        out, hidden = self.rnn(x, getattr(self, "hidden", None))
        self.write(self, hidden)
        return out[:, -1]


def _write_buffers(net, hidden):
    net.mean.mul_(0.9).add_(0.1 * hidden[0].mean(0))
    net.count += 1


def _replace_buffer(net, hidden):
    net.mean = hidden[0].mean(0)


def _replace_by_an_equal(net, hidden):
    net.count = net.count.clone()


@pytest.mark.parametrize("write", [_write_buffers, _replace_buffer, _replace_by_an_equal])
def test_buffers_that_are_written_in_a_pass_are_put_back(write):
    model = Writing(write).double()
    with unchanged(model):
        use(model, series())
    assert not model.mean.any()
    assert model.count == 0


@pytest.mark.parametrize(
    "write",
    [
        lambda net, hidden: setattr(net, "hidden", hidden),
        lambda net, hidden: setattr(net, "extra", hidden),
        lambda net, hidden: setattr(net, "steps", net.steps + 1),
        lambda net, hidden: net.seen.append(hidden),
        lambda net, hidden: net.by_name.update(last=hidden),
        lambda net, hidden: net.by_name.clear(),
        lambda net, hidden: net.names.add("more"),
        lambda net, hidden: net.seen.__setitem__(0, hidden),
        lambda net, hidden: delattr(net, "seen") if hasattr(net, "seen") else None,
    ],
    ids=["carried state", "new attribute", "counter", "list", "dict", "dict emptied", "set", "list item", "deleted"],
)
def test_attributes_that_are_written_in_a_pass_are_put_back(write):
    seen, by_name, names = ["first"], {"first": 1}, {"first"}
    model = Writing(write, hidden=None, steps=7, seen=seen, by_name=by_name, names=names).double()
    x = series()
    with unchanged(model):
        use(model, x)
    assert model.hidden is None
    assert model.steps == 7
    assert model.seen is seen
    assert model.by_name is by_name
    assert (seen, by_name, names) == (["first"], {"first": 1}, {"first"})
    assert_close(sq.Scope(model).predict(x), ref.hidden(model.rnn, x)[:, -1])


@pytest.mark.parametrize(
    ("kept", "write"),
    [
        (deque(["a", "b"], maxlen=2), lambda kept, hidden: kept.append(hidden)),
        (OrderedDict(a=1, b=2), lambda kept, hidden: kept.move_to_end("a")),
        (defaultdict(list, h=["a"]), lambda kept, hidden: kept["more"].append(hidden)),
        ({"h": []}, lambda kept, hidden: kept["h"].append(hidden)),
        ([[], ["a"]], lambda kept, hidden: kept[1].pop() if kept[1] else None),
        (([], "a"), lambda kept, hidden: kept[0].append(hidden)),
    ],
    ids=["deque", "ordered dict", "default dict", "list in a dict", "list in a list", "list in a tuple"],
)
def test_containers_that_are_written_in_a_pass_are_put_back(kept, write):
    before = copy.deepcopy(kept)
    model = Writing(lambda net, hidden: write(net.kept, hidden), kept=kept).double()
    use(model, series())
    assert model.kept is kept
    assert repr(kept) == repr(before)


def test_tensor_that_is_no_buffer_and_is_written_in_place_is_put_back():
    """As a cache of keys and values is kept in many transformers."""
    model = Writing(lambda net, hidden: net.kept[: hidden.shape[1]].copy_(hidden[0]), kept=torch.zeros(64, 5).double()).double()
    use(model, series())
    assert not model.kept.any()


def test_array_that_is_written_in_place_is_put_back():
    def write(net, hidden):
        net.total += hidden.sum().item()

    model = Writing(write, total=np.zeros(1)).double()
    use(model, series())
    assert model.total == np.zeros(1)


def test_weights_that_a_pass_renormalises_are_put_back():
    """`nn.Embedding(max_norm=)` writes into its weight in every pass, in evaluation mode too."""
    model = nn.Sequential(nn.Embedding(11, 4, max_norm=0.5), nn.GRU(4, 5, batch_first=True)).double()
    ids = np.random.default_rng(0).integers(0, 11, (4, 9))
    with unchanged(model):
        found = sq.Scope(model).activations(ids, "0")
    table = ref.weights_of(model[0])["weight"]
    assert (np.linalg.norm(table, axis=1) > 0.5).all()
    expected = table / (np.linalg.norm(table, axis=1, keepdims=True) + 1e-7) * 0.5
    assert_close(found, expected[ids])


def test_weights_that_a_pass_writes_are_put_back():
    def clamp(net, hidden):
        net.rnn.weight_hh_l0.data.clamp_(-0.01, 0.01)

    model = Writing(clamp).double()
    with unchanged(model):
        use(model, series())


def test_gradients_that_a_pass_makes_are_put_back():
    class Adapting(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 5, batch_first=True)

        def forward(self, x):
            with torch.enable_grad():
                out = self.rnn(x)[0]
                out.pow(2).sum().backward()
            return out.detach()[:, -1]

    model = Adapting().double()
    with unchanged(model):
        use(model, series())
    model.rnn(torch.tensor(series()))[0].sum().backward()
    with unchanged(model):
        use(model, series())


def test_random_states_are_kept_when_the_model_draws():
    class Drawing(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 5, batch_first=True)

        def forward(self, x):
            noise = torch.rand(1).item() + np.random.rand() + random.random()
            return self.rnn(x)[0][:, -1] + noise

    model, x = Drawing().double(), series()
    with unchanged(model):
        use(model, x)
        noise = sq.Scope(model).predict(x).values - ref.hidden(model.rnn, x)[:, -1]
    assert_close(noise, np.full((4, 5), noise[0, 0]))  # one draw for the one batch
    assert 0 < noise[0, 0] < 3
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    sq.Scope(model).predict(series())
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("samples", [4, 40])
def test_model_that_draws_for_every_sample_is_run(samples):
    """Dropout that stays on in evaluation mode, as for samples of the posterior: other draws are no other order."""

    class StillDropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.same = nn.GRU(3, 5, batch_first=True), nn.Identity()

        def forward(self, x):
            return self.same(nn.functional.dropout(self.rnn(x)[0][:, -1], 0.5, training=True))

    model, x = StillDropping().double(), series(samples)
    last = ref.hidden(model.rnn, x)[:, -1]
    with unchanged(model):
        found = [sq.Scope(model).predict(x).values, sq.Scope(model).activations(x, "same").values]
    for values in found:
        assert_close(values, np.where(values == 0, 0, 2 * last))
        assert 0.2 < (values == 0).mean() < 0.8


def test_global_flags_that_a_pass_sets_are_put_back():
    class Setting(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 5, batch_first=True)

        def forward(self, x):
            torch.set_grad_enabled(True)
            torch.set_default_dtype(torch.float64)
            return self.rnn(x)[0][:, -1]

    model = Setting().double()
    try:
        with torch.no_grad(), unchanged(model):
            use(model, series())
    finally:
        torch.set_default_dtype(torch.float32)


# When the pass is broken off


class Breaking(nn.Module):
    """Raises in the middle of a pass, once it is told to, having changed what it can."""

    def __init__(self, error):
        super().__init__()
        self.first, self.rnn = nn.GRU(3, 4, batch_first=True), nn.LSTM(4, 5, num_layers=2, batch_first=True, dropout=0.5)
        self.register_buffer("mean", torch.zeros(4))
        self.hidden, self.seen, self.error, self.breaks = None, [], error, [False]

    def expected(self, x):
        return ref.hidden(self.rnn, ref.hidden(self.first, x))[:, -1]

    def forward(self, x):
        x = self.first(x)[0]
        self.mean += x.detach().mean((0, 1))
        self.hidden = x
        self.seen.append(x)
        torch.rand(1), np.random.rand(), random.random()
        if self.breaks[0]:
            raise self.error
        return self.rnn(x)[0][:, -1]


class OwnError(Exception):
    pass


@pytest.mark.parametrize("layers", [None, ["rnn.0", "first"]])
@pytest.mark.parametrize("seen_before", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), OwnError("no more")], ids=lambda error: type(error).__name__)
def test_model_is_left_as_it_was_when_a_pass_breaks_off(error, layers, seen_before):
    model = Breaking(error).double()
    model.rnn.eval()
    scope = sq.Scope(model)
    if seen_before:
        scope.activations(series())
    model.breaks[0] = True
    passes = sq.errors.ModelError if isinstance(error, Exception) else type(error)
    with unchanged(model):
        with pytest.raises(passes) as raised:
            scope.activations(series(), layers)
        with pytest.raises(passes):
            scope.predict(series())
    assert raised.value.__cause__ is error if isinstance(error, Exception) else raised.value is error
    assert model.hidden is None
    assert model.seen == []
    model.breaks[0] = False
    assert_close(scope.predict(series()), model.expected(series()))


def test_ctrl_c_during_a_layer_inside_leaves_no_hook():
    model = trained()

    def interrupt(module, args):
        raise KeyboardInterrupt

    model.fc.register_forward_pre_hook(interrupt)
    with unchanged(model), pytest.raises(KeyboardInterrupt):
        sq.Scope(model).activations(series())


def test_ctrl_c_passes_through_whatever_was_written_before_it():
    """A weight that is written for the first time in the very pass that is broken off."""

    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.breaks = nn.GRU(3, 5, batch_first=True), [False]

        def forward(self, x):
            if self.breaks[0]:
                self.rnn.weight_hh_l0.mul_(0.5)
                raise KeyboardInterrupt
            return self.rnn(x)[0][:, -1]

    model = Late().double()
    scope = sq.Scope(model)
    scope.predict(series())
    model.breaks[0] = True
    with pytest.raises(KeyboardInterrupt):
        scope.predict(series())


def test_lock_is_free_after_a_pass_that_broke_off():
    model = Breaking(KeyboardInterrupt()).double()
    model.breaks[0] = True
    with pytest.raises(KeyboardInterrupt):
        sq.Scope(model).predict(series())
    model.breaks[0] = False
    with ThreadPoolExecutor(1) as pool:  # another thread: the lock lets its own thread in again
        assert pool.submit(sq.Scope(model).predict, series()).result(timeout=60).shape == (4, 5)


# The person's data


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("form", ["array", "single", "list", "sequences", "labelled", "tensor"])
def test_data_is_never_written_to(form, dtype):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 5, batch_first=True)

        def forward(self, x):
            return self.rnn(x.add_(1))[0][:, -1]

    model = InPlace().to({np.float64: torch.float64, np.float32: torch.float32}[dtype])
    x = series().astype(dtype)
    before = x.copy()
    data = {
        "array": x,
        "single": x[0],
        "list": list(x),
        "sequences": sq.Sequences(x),
        "labelled": sq.Sequences(x)[0],
        "tensor": torch.from_numpy(x),
    }[form]
    predicted = sq.Scope(model).predict(data)
    sq.Scope(model).activations(data)
    np.testing.assert_array_equal(x, before)
    expected = ref.hidden(model.rnn, before.astype(float) + 1)[:, -1]
    assert_close(predicted, expected[0] if form in ("single", "labelled") else expected, np.dtype(dtype).name)


def test_tokens_are_never_written_to():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn = nn.Embedding(11, 4), nn.GRU(4, 5, batch_first=True)

        def forward(self, ids):
            return self.rnn(self.embed(ids.clamp_(max=5)))[0][:, -1]

    ids = np.random.default_rng(0).integers(0, 11, (4, 9))
    before = ids.copy()
    sq.Scope(InPlace()).predict(ids)
    np.testing.assert_array_equal(ids, before)


def test_results_share_no_memory_with_the_model():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 5, batch_first=True)
            self.register_buffer("table", torch.ones(9, 5).double())

        def forward(self, x):
            return self.rnn(x)[0] * 0 + self.table

    model = Plain().double()
    scope = sq.Scope(model, layout="NTC")
    with contextlib.suppress(sq.errors.LayerError):  # the output is the same for every sample
        scope.predict(series()).values[:] = 7
    scope.activations(series(), "rnn").values[:] = 7
    assert (model.table == 1).all()
    assert_close(scope.activations(series(), "rnn"), ref.hidden(model.rnn, series()))


# Threads


def together(tasks):
    """Run functions at the same time, a thread each, and give what they give."""
    gate = threading.Barrier(len(tasks))

    def start(task):
        gate.wait(timeout=60)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result(timeout=120) for future in [pool.submit(start, task) for task in tasks]]


PLACES = (0, 2, 5)


class Deep(nn.Module):
    def __init__(self, depth=6):
        super().__init__()
        self.rnns = nn.ModuleList([nn.GRU(3 if place == 0 else 5, 5, batch_first=True) for place in range(depth)])
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(0.5)

    def forward(self, x):
        for rnn in self.rnns:
            x = rnn(x)[0]
        return self.dropout(self.relu(x[:, -1]))


@pytest.mark.parametrize("scopes", ["one scope", "two scopes"])
@pytest.mark.usefixtures("_threads_take_turns_often")
def test_threads_on_one_model_get_what_each_asked_for(scopes):
    model = Deep().double().train()
    data = [series(3, 6, seed=seed) for seed in range(4)]
    expected = []
    for x in data:
        layers = []
        value = x
        for rnn in model.rnns:
            value = ref.hidden(rnn, value)
            layers.append(value)
        expected.append(layers)

    def ask(scope, place, thread):
        activations, output = scope.activations(data[thread], f"rnns.{place}"), scope.predict(data[thread])
        assert_close(activations, expected[thread][place])
        assert_close(output, ref.relu(expected[thread][-1][:, -1]))

    with unchanged(model):
        for _ in range(2):
            shared = sq.Scope(model)
            together(
                [
                    partial(ask, shared if scopes == "one scope" else sq.Scope(model), place, thread)
                    for place in PLACES
                    for thread in range(4)
                ]
            )


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_threads_on_a_model_and_on_a_part_of_it():
    model, x, of_part = Deep(3).double().train(), series(3, 6), series(3, 6, 5)
    expected = {"whole": ref.hidden(model.rnns[1], ref.hidden(model.rnns[0], x)), "part": ref.hidden(model.rnns[1], of_part)}

    def ask(module, data, name, what):
        for _ in range(3):
            assert_close(sq.Scope(module).activations(data, name), expected[what])

    with unchanged(model):
        together([partial(ask, model, x, "rnns.1", "whole"), partial(ask, model.rnns[1], of_part, "gru", "part")])


def _table(scope):
    return scope.layers.to_dataframe()


@pytest.mark.usefixtures("_threads_take_turns_often")
def test_threads_that_ask_a_fresh_scope_for_all_layers_at_once():
    model, x = Deep(4).double(), series(3, 6)
    for _ in range(3):
        scope = sq.Scope(model)
        tasks = [partial(scope.activations, x), partial(scope.activations, x), partial(scope.predict, x), partial(_table, scope)]
        trees = together(tasks)
        first = ref.hidden(model.rnns[0], x)
        for tree in trees[:2]:
            assert_close(tree["rnns.0"].activations, first)
            assert_close(tree["rnns.1"].activations, ref.hidden(model.rnns[1], first))


def test_thread_without_gradients_does_not_turn_them_off_elsewhere():
    """Gradients are on in this thread while another one is inside a pass."""
    inside, leave = threading.Event(), threading.Event()

    class Waiting(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 5, batch_first=True)

        def forward(self, x):
            inside.set()
            leave.wait(timeout=60)
            return self.rnn(x)[0][:, -1]

    model = Waiting().double()
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(sq.Scope(model).predict, series())
        assert inside.wait(timeout=60)
        grad = torch.is_grad_enabled()
        leave.set()
        pending.result(timeout=60)
    assert grad


def test_passes_of_two_models_at_once_keep_the_random_state():
    """The random state is the process's own: a second pass must not take for the state before it what the first one has drawn."""
    one, other = nn.Linear(1, 1), nn.Linear(1, 1)
    drawn, entered, left = threading.Event(), threading.Event(), threading.Event()
    before = world_of()

    def first():
        with as_it_was(one):
            torch.rand(1)
            drawn.set()
            entered.wait(timeout=0.5)  # never, where the second one has to wait for us
        left.set()

    def second():
        drawn.wait(timeout=60)
        with as_it_was(other):
            entered.set()
            left.wait(timeout=60)

    together([first, second])
    assert_same({"world": before}, {"world": world_of()})


def test_compiled_and_plain_scopes_on_one_model_share_its_lock():
    model = Deep(3).double()
    compiled = torch.compile(model, backend="eager")
    x = series(3, 6)
    first = ref.hidden(model.rnns[0], x)
    for found in together([lambda m=m: sq.Scope(m).activations(x, "rnns.0") for m in (model, compiled, model, compiled)]):
        assert_close(found, first)
