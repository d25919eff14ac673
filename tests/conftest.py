"""What all tests share: one thread, one seed, a small trained-looking network and ragged data for it."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))  # reference.py and tolerances.py, under any import mode

os.environ.setdefault("KERAS_BACKEND", "torch")  # the others run in processes of their own
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests begin
torch.set_num_threads(1)

pytest_plugins = ["chromium"]

# No test asserts a time, and a run that failed can be repeated.
hypothesis.settings.register_profile("seqscope", deadline=None, derandomize=True, database=None, max_examples=20)
hypothesis.settings.load_profile("seqscope")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keras' backends and Keras 2 run in processes of their own: begun first and waited for last, so that both cores have work."""
    last = {name: place for place, name in enumerate(("test_keras_legacy.py", "test_backends.py"))}
    items.sort(key=lambda item: last.get(item.path.name, -1))  # the order of the others stays
    modules = {item.path.name: item.module for item in items if item.path.name in last}
    for module in () if config.option.collectonly else modules.values():
        module.begin(Path(tempfile.mkdtemp(prefix="seqscope-")))


class Reader(nn.Module):
    """A recurrent net that reads a series and tells classes apart from its last step."""

    def __init__(self, cell: type[nn.RNNBase] = nn.LSTM, channels: int = 3, units: int = 5, outputs: int = 2, **options: bool) -> None:
        super().__init__()
        self.rnn = cell(channels, units, batch_first=True, **options)
        self.fc = nn.Linear(units * (2 if self.rnn.bidirectional else 1), outputs)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.softmax(self.fc(self.rnn(x)[0][:, -1]))


@pytest.fixture(autouse=True)
def _same_weights_in_every_run() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make_reader() -> Callable[..., nn.Module]:
    """Makes networks as `reader`, of other sizes and cells."""
    return lambda *args, **options: Reader(*args, **options).double().eval()


@pytest.fixture
def reader(make_reader: Callable[..., nn.Module]) -> nn.Module:
    """LSTM `rnn` of 5 units on 3 channels, `fc` of 2, `softmax`; float64, layout NTC."""
    return make_reader()


@pytest.fixture
def block() -> np.ndarray:
    """Four series of 9 steps and 3 channels."""
    return np.random.default_rng(1).standard_normal((4, 9, 3))


@pytest.fixture
def ragged() -> list[np.ndarray]:
    """Five series of 3 channels and 7, 4, 9, 4, 1 steps."""
    random = np.random.default_rng(2)
    return [random.standard_normal((length, 3)) for length in (7, 4, 9, 4, 1)]


@pytest.fixture
def _threads_take_turns_often() -> Iterator[None]:
    """Make it likely that threads which must not meet do meet."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
