"""What a class or a unit asks for: reached by the model's own word, within the data, and what was planted."""

import numpy as np
import pytest
import torch
from torch import nn

import seqscope as sq
from nets import Net
from seqscope.errors import DataError, LayerError, SeqscopeError, UnsupportedError

X, Y = sq.datasets.japanese_vowels("train")
FEW = X[::5]


@pytest.fixture(scope="module")
def scope():
    return sq.Scope(sq.zoo.japanese_vowels())


@pytest.fixture(scope="module")
def found(scope):
    return scope.maximize("3", like=X, restarts=2, steps=100)


def logits(scope, x):
    with torch.no_grad():
        return scope.model.logits(torch.tensor(x, dtype=torch.float32)).numpy()


@pytest.mark.parametrize("speaker", X.outputs)
def test_every_restart_is_classified_as_what_it_was_made_for_and_lies_within_the_data(scope, speaker):
    made = scope.maximize(speaker, like=FEW, restarts=2, steps=150)
    probability = scope.predict(made.input.rename(restart="sample")).sel(output=speaker)
    assert float(probability.min()) > 0.99
    np.testing.assert_allclose(made.probability, probability, atol=1e-5)
    assert bool(made.reached.all())
    steps = np.concatenate([x.values for x in FEW])
    assert (made.input.values >= steps.min(0) - 1e-6).all()
    assert (made.input.values <= steps.max(0) + 1e-6).all()
    assert float(made.distance.max()) < 2  # a real one lies 1 from the next


def test_the_figures_are_those_of_the_model(scope, found):
    own = logits(scope, found.input.values)
    np.testing.assert_allclose(found.score[:, -1], own[:, 2], atol=1e-4)
    np.testing.assert_allclose(found.margin[:, -1], own[:, 2] - np.delete(own, 2, axis=1).max(1), atol=1e-4)
    assert float(found.margin[:, 0].max()) < float(found.margin[:, -1].min())
    assert found.attrs["objective"] == "margin"
    assert found.attrs["score"] == "logit"
    assert found.attrs["looked_through"] == "softmax"
    assert found.sizes["time"] == 15  # the median


def test_the_real_sequences_beside_it_are_those_that_score_highest(scope, found):
    own = np.stack([logits(scope, x.values[None])[0] for x in X])
    margin = own[:, 2] - np.delete(own, 2, axis=1).max(1)
    best = np.argsort(-margin)[:5]
    np.testing.assert_array_equal(found.real_sample, best)
    np.testing.assert_allclose(found.real_margin, margin[best], atol=1e-4)
    np.testing.assert_allclose(found.real_score, own[best, 2], atol=1e-4)
    np.testing.assert_array_equal(found.real_label, Y[best])
    for rank, row in enumerate(best):
        np.testing.assert_array_equal(found.real_input[rank].dropna("real_time"), X[int(row)])


def test_the_same_seed_makes_the_same_and_another_another(scope):
    first, again, other = (scope.maximize("3", like=FEW, restarts=2, steps=10, reach=0.0, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(again.input, first.input)
    assert not np.allclose(other.input, first.input)


def test_it_survives_a_file(found, tmp_path):
    found.to_netcdf(tmp_path / "found.nc", engine="h5netcdf")
    import xarray as xr

    with xr.open_dataset(tmp_path / "found.nc", engine="h5netcdf") as back:
        np.testing.assert_array_equal(back.input, found.input)


def test_the_model_is_left_as_it_was_and_the_random_state_too(scope, found):
    before = {name: tensor.clone() for name, tensor in scope.model.state_dict().items()}
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    scope.maximize("1", like=FEW, restarts=2, steps=10, reach=0.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in scope.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])
    assert all(weight.grad is None and weight.requires_grad for weight in scope.model.parameters())


@pytest.mark.parametrize("parameterisation", ["components", "raw"])
def test_other_searches_reach_it_too(scope, parameterisation):
    made = scope.maximize("7", like=FEW, restarts=2, steps=150, parameterisation=parameterisation)
    assert float(made.probability.min()) > 0.99
    assert made.attrs["parameterisation"] == parameterisation


def test_fourier_coefficients_give_smoother_series_than_values(scope):
    free = {"total_variation": 0, "norm": 0}

    def roughness(parameterisation):
        made = scope.maximize("7", like=FEW, restarts=2, steps=40, length=40, reach=0.0, **free, parameterisation=parameterisation)
        return float(np.abs(made.input.diff("time")).mean() / made.input.std())

    assert roughness("fourier") < 0.6 * roughness("raw")


@pytest.mark.filterwarnings("ignore:1 of 2 restarts do not reach")  # one may fall short: the other shows what can be reached
def test_a_unit_a_gate_and_a_function_can_be_asked(scope):
    unit = scope.maximize(sq.target.unit("lstm", 50), like=FEW, restarts=2, steps=80)
    hidden = scope.activations(unit.input.rename(restart="sample"), "lstm").isel(unit=50, time=-1)
    np.testing.assert_allclose(unit.score[:, -1], hidden, atol=1e-5)
    real = scope.activations(FEW, "lstm").isel(unit=50)
    last = [float(real[row, length - 1]) for row, length in enumerate(FEW.lengths)]
    assert np.isclose(float(unit.real_score[0]), max(last), atol=1e-5)
    assert float(hidden.max()) > 0.99 * max(last)
    assert "margin" not in unit
    assert "probability" not in unit
    gate = scope.maximize(sq.target.unit("lstm", 3, state="f"), length=12, restarts=2, steps=50)
    assert float(gate.score[:, -1].min()) > 0.9
    own = scope.maximize(lambda output: output[:, 0] - output[:, 1], like=FEW, restarts=2, steps=5, reach=0.0)
    assert own.attrs["score"] == "function"


def test_without_data_there_are_no_bounds_unless_they_are_said(scope):
    free = scope.maximize(0, length=20, restarts=2, steps=5, reach=0.0)
    assert free.sizes["time"] == 20
    assert not {"distance", "real_input", "nearest"} & set(free)
    bounded = scope.maximize(0, length=20, restarts=2, steps=30, bounds=(-0.5, np.linspace(0.1, 0.4, 12)), reach=0.0)
    assert float(bounded.input.min()) >= -0.5
    assert (bounded.input.values.max((0, 1)) <= np.linspace(0.1, 0.4, 12) + 1e-6).all()


def test_a_restart_that_falls_short_is_driven_on_and_then_reported(scope):
    with pytest.warns(UserWarning, match="2 of 2 restarts do not reach a probability of 1 for 4"):
        made = scope.maximize("4", like=FEW, restarts=2, steps=20, reach=1.0)
    assert made.attrs["driven_on"] == 3
    assert not made.reached.any()
    assert made.sizes["iteration"] == 81


def planted_net(n_classes):
    """Convolutions, then the mean over time."""
    torch.manual_seed(0)
    return Net(
        lambda net, x: net.fc(torch.relu(net.two(torch.relu(net.one(x)))).mean(2)),
        one=nn.Conv1d(3, 24, 11, padding=5),
        two=nn.Conv1d(24, 24, 11, padding=5),
        fc=nn.Linear(24, n_classes),
    )


@pytest.fixture(scope="module")
def planted():
    """A convolution net over 95 % on planted patterns, the data, and the patterns themselves."""
    options = {"length": 100, "pattern": ("sine", "peaks", "chirp"), "noise": 0.3}
    series, y, _ = sq.datasets.planted(400, **options)
    inputs = torch.tensor(np.array([one.values for one in series])).transpose(1, 2).float()
    classes = torch.tensor([series.outputs.index(name) for name in y])
    net = planted_net(3).float()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(20):
        for rows in torch.randperm(400).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[rows]), classes[rows]).backward()
            optimizer.step()
    scope = sq.Scope(net.eval(), layout="NCT", outputs=series.outputs)
    test, of_test, _ = sq.datasets.planted(200, seed=1, **options)
    assert float((scope.predict(test).idxmax("output") == of_test).mean()) > 0.95
    clean, _, _ = sq.datasets.planted(400, **options | {"noise": 0.0})
    patterns = {}
    for name in series.outputs:
        one = clean[int(np.flatnonzero(y == name)[0])].values[:, 0]
        there = np.flatnonzero(one)
        patterns[name] = one[there[0] : there[-1] + 1]
    return scope, series, patterns


def best_lag(pattern, series):
    """The largest correlation of a pattern with any stretch of a series."""
    stretches = np.lib.stride_tricks.sliding_window_view(series, len(pattern))
    return max(np.corrcoef(pattern, stretch)[0, 1] for stretch in stretches if stretch.std() > 0)


def amount(pattern, series):
    """How much of a pattern there is in a series, where there is most of it."""
    stretches = np.lib.stride_tricks.sliding_window_view(series, len(pattern))
    return float((stretches @ (pattern - pattern.mean())).max() / (pattern**2).sum())


@pytest.mark.parametrize("name", ["sine", "peaks", "chirp"])
def test_what_a_class_asks_for_is_what_was_planted(planted, name):
    scope, series, patterns = planted
    made = scope.maximize(name, like=series[:200], restarts=3, steps=150)
    there = [best_lag(patterns[name], one.values[:, 0]) for one in made.input]
    assert np.median(there) > 0.8
    by_channel = np.median([[amount(patterns[name], one.values[:, channel]) for channel in range(3)] for one in made.input], axis=0)
    assert by_channel[0] > 3 * by_channel[1:].max()
    assert float(made.probability.min()) > 0.99


def refused(call, kind, *words):
    with pytest.raises(SeqscopeError) as caught:
        call()
    assert type(caught.value) is kind, caught.value
    for word in words:
        assert word in caught.value.message, caught.value.message
    assert "\n" not in caught.value.message


BAD = {
    "no target": ({"target": None}, DataError, "A target is needed"),
    "several targets": ({"target": [1, 2]}, DataError, "one is maximized at a time"),
    "no such class": ({"target": 9}, DataError, "There is no output 9", "0 to 8"),
    "no such name": ({"target": "ten"}, DataError, "no output named 'ten'"),
    "no such unit": ({"target": sq.target.unit("lstm", 100)}, DataError, "no unit 100"),
    "no such layer": ({"target": sq.target.unit("lstn", 1)}, LayerError, "the nearest is 'lstm'"),
    "every step": ({"target": sq.target.output(1, time="all")}, DataError, "leave time out"),
    "objective": ({"objective": "softmax"}, DataError, "no objective 'softmax'", "'logit', 'margin'"),
    "margin of a unit": ({"target": sq.target.unit("lstm", 1), "objective": "margin"}, DataError, "has none beside it"),
    "parameterisation": ({"parameterisation": "wavelet"}, DataError, "no parameterisation 'wavelet'"),
    "restarts": ({"restarts": 0}, DataError, "restarts is 0"),
    "steps": ({"steps": 1.5}, DataError, "steps is 1.5"),
    "length": ({"length": 0}, DataError, "length is 0"),
    "norm": ({"norm": -1}, DataError, "norm is -1"),
    "rate": ({"rate": "fast"}, DataError, "rate is 'fast'"),
    "scale": ({"scale": 2}, DataError, "0.9 at most"),
    "reach": ({"reach": 1.5}, DataError, "reach is 1.5"),
    "bounds no pair": ({"bounds": 3}, DataError, "a pair, (low, high)"),
    "bounds the wrong way": ({"bounds": (1, -1)}, DataError, "does not lie below"),
    "bounds of another width": ({"bounds": (np.zeros(3), 1)}, DataError, "one for each of the 12 channels"),
    "like of another width": ({"like": np.zeros((4, 20, 5))}, DataError, "5 channels", "12"),
    "like of tokens": ({"like": np.zeros((4, 20), int)}, DataError, "Integer tokens were given"),
    "components of nothing": ({"like": None, "length": 9, "parameterisation": "components"}, DataError, "say like=X"),
    "components of two": ({"like": X[:2], "parameterisation": "components"}, DataError, "three sequences or more"),
    "seed": ({"seed": -1}, DataError, "seed is -1"),
    "infinite": ({"total_variation": np.inf}, DataError, "total_variation is inf"),
    "open bound": ({"bounds": (None, 1)}, DataError, "A bound is None", "numpy.inf for none"),
    "like that never changes": ({"like": np.ones((4, 20, 12))}, DataError, "never change", "bounds="),
    "no length": ({"like": None}, DataError, "say like=X", "length="),
}


@pytest.mark.parametrize("case", BAD)
def test_what_can_not_be_is_said_in_a_sentence(scope, case):
    options, kind, *words = BAD[case]
    options = {"target": 1, "like": FEW, "steps": 5} | options
    refused(lambda: scope.maximize(options.pop("target"), **options), kind, *words)


def last_step_net():
    """A score of two outputs at every step."""
    torch.manual_seed(0)
    return Net(lambda net, x: net.fc(net.rnn(x)[0]), rnn=nn.RNN(3, 4, batch_first=True), fc=nn.Linear(4, 2))


@pytest.mark.parametrize("target", [sq.target.output(1, time=12), sq.target.unit("rnn", 1, time=12)], ids=str)
def test_a_step_has_to_be_there_in_what_is_made_and_in_the_data(target):
    scope, random = sq.Scope(last_step_net()), np.random.default_rng(0)
    long, short = (random.standard_normal((2, n_steps, 3)) for n_steps in (20, 10))
    options = {"restarts": 1, "steps": 3, "reach": 0.0}
    assert scope.maximize(target, like=long, length=13, **options).sizes["time"] == 13
    refused(lambda: scope.maximize(target, like=long, length=12, **options), DataError, "no", "step 12", "to be made has 12 steps")
    refused(lambda: scope.maximize(target, like=[*short, *long], length=20, **options), DataError, "step 12", "10")
    refused(lambda: scope.maximize(target, length=9, **options), DataError, "step 12")


def test_one_real_sequence_has_no_neighbour_to_measure_with(scope):
    made = scope.maximize("1", like=X[0], restarts=2, steps=3, reach=0.0)
    assert "own_distance" not in made.attrs
    assert made.distance.attrs["units"] == made.diversity.attrs["units"] == "standard deviation"
    spread, old = X[0].values.std(0), np.linspace(0, 1, X.lengths[0])
    real = np.stack([np.interp(np.linspace(0, 1, made.sizes["time"]), old, channel) for channel in X[0].values.T], 1)
    np.testing.assert_allclose(made.distance, np.sqrt((((made.input - real) / spread) ** 2).mean(("time", "channel"))), rtol=1e-5)


def test_a_score_has_a_margin_also_where_the_score_is_raised(scope):
    made = scope.maximize("1", like=FEW, objective="logit", restarts=1, steps=3, reach=0.0)
    own = np.stack([logits(scope, x.values[None])[0] for x in FEW])
    best = np.argsort(-own[:, 0])[:5]
    np.testing.assert_allclose(made.real_score, own[best, 0], atol=1e-4)
    np.testing.assert_allclose(made.real_margin, own[best, 0] - own[best, 1:].max(1), atol=1e-4)


def test_the_clock_of_the_data_is_that_of_what_is_made(scope):
    data = sq.Sequences(np.stack([FEW[row].values[:7] for row in range(6)]), rate=50.0)
    options = {"restarts": 1, "steps": 2, "reach": 0.0}
    made = scope.maximize(1, like=data, length=9, **options)
    np.testing.assert_allclose(made.time, np.arange(9) / 50)
    np.testing.assert_allclose(made.real_time, np.arange(7) / 50)
    assert made.time.attrs["units"] == made.real_time.attrs["units"] == "s"
    days = sq.Sequences(np.asarray([x.values for x in data]), time=np.arange("2020-01-01", "2020-01-08", dtype="datetime64[D]"))
    np.testing.assert_array_equal(scope.maximize(1, like=days, **options).time, np.arange(7))


def test_bounds_beyond_the_data_are_begun_in(scope):
    made = scope.maximize(1, like=FEW, bounds=(5, 6), restarts=2, steps=20, reach=0.0)
    assert float(made.input.min()) >= 5
    assert (made.input.std(("restart", "time")) > 0).all()


def test_training_mode_is_said_and_set_aside():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Dropout(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.warns(UserWarning, match="Found in training mode, set aside for this call: '1', '2'"):
        sq.Scope(net, layout="NCT").maximize(0, length=12, steps=3, reach=0.0)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_what_is_ablated_stays_out_of_it(scope):
    with scope.ablate("lstm", range(40)) as without:
        made = without.maximize(2, like=FEW, restarts=2, steps=10, reach=0.0)
        probability = without.predict(made.input.rename(restart="sample")).isel(output=2)
    np.testing.assert_allclose(made.probability, probability, atol=1e-5)
    assert made.attrs["ablated"].startswith("lstm")
    assert not np.allclose(made.probability, scope.predict(made.input.rename(restart="sample")).isel(output=2), atol=1e-5)


def test_a_target_that_no_gradient_reaches_is_refused():
    net = Net(lambda net, x: net.fc(torch.relu(net.conv(x) - 1e6).mean(2)), conv=nn.Conv1d(3, 4, 3), fc=nn.Linear(4, 2))
    scope = sq.Scope(net, layout="NCT")
    refused(lambda: scope.maximize(0, length=20, steps=5), UnsupportedError, "No derivative of 0 reaches the input")
    cut = Net(lambda net, x: net.fc(net.conv(x).detach().mean(2)), conv=nn.Conv1d(3, 4, 3), fc=nn.Linear(4, 2))
    refused(lambda: sq.Scope(cut, layout="NCT").maximize(0, length=20, steps=5), UnsupportedError, "No derivative")
    step = Net(lambda net, x: (net.fc(net.conv(x).mean(2)) > 0).float(), conv=nn.Conv1d(3, 4, 3), fc=nn.Linear(4, 2))
    refused(lambda: sq.Scope(step, layout="NCT").maximize(0, length=20, steps=5), UnsupportedError, "derivative")


def test_tokens_and_wrong_lengths_are_refused():
    speller = Net(lambda net, x: net.fc(net.emb(x).mean(1)), emb=nn.Embedding(8, 4), fc=nn.Linear(4, 2))
    refused(lambda: sq.Scope(speller).maximize(0, like=np.zeros((3, 9), int)), UnsupportedError, "Tokens have no derivative")
    fixed = sq.Scope(nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 18, 2)), layout="NCT")
    data = np.random.default_rng(0).standard_normal((5, 3, 20))
    refused(lambda: fixed.maximize(0, like=data, length=30), DataError, "does not take series of 30 steps")
    assert fixed.maximize(0, like=data, steps=10, reach=0.0).sizes["time"] == 20


def test_independent_probabilities_do_not_compete():
    torch.manual_seed(0)
    net = Net(lambda net, x: torch.sigmoid(net.fc(net.conv(x).mean(2))), conv=nn.Conv1d(3, 4, 3), fc=nn.Linear(4, 2))
    made = sq.Scope(net, layout="NCT").maximize(1, length=20, restarts=2, steps=10, reach=0.0)
    assert made.attrs["objective"] == "logit"
    assert made.attrs["looked_through"] == "sigmoid"
    np.testing.assert_allclose(made.probability, 1 / (1 + np.exp(-made.score[:, -1])), atol=1e-5)


def test_one_step_of_a_model_with_an_output_at_every_step():
    torch.manual_seed(0)
    net = Net(lambda net, x: net.fc(net.rnn(x)[0]).softmax(-1), rnn=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 4))
    scope = sq.Scope(net)
    refused(lambda: scope.maximize(1, length=12, steps=5), DataError, "an output at every step")
    made = scope.maximize(sq.target.output(1, time=4), length=12, restarts=2, steps=20, reach=0.0)
    with torch.no_grad():
        own = net.fc(net.rnn(torch.tensor(made.input.values))[0])[:, 4].numpy()
    np.testing.assert_allclose(made.margin[:, -1], own[:, 1] - np.delete(own, 1, axis=1).max(1), atol=1e-5)
