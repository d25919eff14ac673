"""Look at what an LSTM does with a spoken vowel, at every time step.

The network (12 channels, an LSTM of 100 units read at its last step, 9 speakers) and its data come with the package. Writes
pictures into the folder given, by default the current one:

    python examples/japanese_vowels.py [FOLDER]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import xarray as xr

import seqscope as sq

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(parents=True, exist_ok=True)

# The network and what it is made of.
scope = sq.Scope(sq.zoo.japanese_vowels())
X, y = sq.datasets.japanese_vowels("test")
print(scope.layers)

# The first test sequence.
ax = sq.plot.series(X[0], title="Test Observation 1")
ax.figure.savefig(folder / "observation.png", dpi=130)

# The LSTM's output at each time step. Every step of the sequence is fed, one after the other; the published recipe for this picture
# feeds the first step, `X(:,1)`, in every turn of its loop, and so draws the answer to a constant input.
hidden = scope.activations(X[0], "lstm")
print(f"\n{hidden.sizes['unit']} hidden units at {hidden.sizes['time']} time steps; the first unit:")
print(hidden.sel(unit=0).values.round(3))

# The same one step at a time, the state of the network updated at each: as one would step through a live feed.
steps = []
with scope.stream(check=X[:1]) as stream:
    for x_t in X[0]:
        steps.append(stream.step(x_t).activations["lstm"])
stepped = xr.concat(steps, "time")
print(f"Stepping gives the same to {float(abs(stepped - hidden.drop_vars('time')).max()):.0e}.")

# Gates and memory cell of three units; and what each step wrote into the cell state that the decision is made from.
states = scope.states(X[0], "lstm")
panels = sq.plot.states(X[0], states, unit=[0, 1, 2])
panels["input"].figure.savefig(folder / "gates.png", dpi=130)
panels = sq.plot.memory(X[0], scope.memory(X[0], "lstm"))
panels["input"].figure.savefig(folder / "memory.png", dpi=130)

# The first ten hidden units as a heatmap.
ax = sq.plot.heatmap(hidden.isel(unit=slice(10)), title="LSTM Activations")
ax.figure.savefig(folder / "heatmap.png", dpi=130)

# All of them under the input, alike ones next to each other.
panels = sq.plot.activations(X[0], hidden, sort="cluster")
panels["input"].figure.savefig(folder / "hidden_units.png", dpi=130)

# The whole data set in one call: sequences of 7 to 29 steps, NaN where one has ended.
everything = scope.activations(X, "lstm")
accuracy = float((scope.predict(X).idxmax("output") == y).mean())
print(f"\nAll {len(X)} sequences: {dict(everything.sizes)}; {100 * accuracy:.1f} % go to the right speaker.")
plt.close("all")
