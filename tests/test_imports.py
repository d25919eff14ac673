"""`import seqscope` loads no framework and no plotting, in a fresh process, and changes nothing there.

Two ways to hold it: packages that can be found but break when they are run, and packages that can't be found at all. What xarray does:
when it is imported it asks whether dask can be found (`find_spec`) and does not import it, which is why the first way lets itself be
found; where dask is installed it imports it for the first array that is made, which is no doing of ours.
"""

import json
import subprocess
import sys
import textwrap

OPTIONAL = (
    *("torch", "keras", "tensorflow", "jax", "onnx", "onnxruntime", "captum"),
    *("zarr", "dask", "distributed", "panel", "bokeh"),
    "matio",
    *("matplotlib", "sklearn", "h5netcdf", "h5py"),  # these are installed with seqscope, and slow to load
)

# In place of the packages above: found like any other, and an error that no `except ImportError` hides once they are run.
TRAP = """
import importlib.abc, importlib.machinery, sys

class Trap(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name.partition(".")[0] in OPTIONAL else None

    def create_module(self, spec):
        raise RuntimeError(f"{spec.name} was imported")

    def exec_module(self, module):
        raise RuntimeError(f"{module.__name__} was imported")

sys.meta_path.insert(0, Trap())
"""

# As if the packages above were not installed: neither an import nor a look finds them.
HIDE = """
import importlib.abc, sys

class Hide(importlib.abc.MetaPathFinder):
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in OPTIONAL else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path = [Hide(finder) for finder in sys.meta_path]
"""


def in_fresh_process(*parts):
    """What the code prints, as JSON. Warnings are errors there too."""
    code = "\n".join(textwrap.dedent(part) for part in (f"OPTIONAL = {OPTIONAL!r}", *parts))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return json.loads(done.stdout)


def test_the_import_runs_no_optional_package():
    loaded = in_fresh_process(
        """
        import json, sys
        import seqscope
        print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
        """
    )
    assert "seqscope" in loaded
    assert "xarray" in loaded
    assert not set(loaded) & set(OPTIONAL)


def test_the_import_and_a_scope_of_no_model_do_without_what_would_break_if_it_ran():
    names, said = in_fresh_process(
        TRAP,
        """
        import json
        import seqscope as sq
        try:
            sq.Scope(object())
        except sq.errors.ModelError as error:
            print(json.dumps([dir(sq) + dir(sq.nn), str(error)]))
        """,
    )
    assert {"Scope", "Sequences", "plot", "nn", "torch", "keras"} <= set(names)
    assert "is not a model of a known framework" in said


def test_data_is_taken_in_labelled_and_batched_without_what_would_break_if_it_ran():
    said = in_fresh_process(
        "OPTIONAL = tuple(name for name in OPTIONAL if name != 'dask')  # xarray's own doing, see above",
        TRAP,
        """
        import json
        import seqscope as sq
        X, y = sq.datasets.japanese_vowels("test")
        batch = next(X[:3].batches(2))
        print(json.dumps([repr(X), X[0].dims, batch.values[1, 0, 0]]))
        """,
    )
    assert said == ["Sequences: 370 sequences, 7 to 29 steps, 12 channels", ["time", "channel"], 1.512185]


def test_the_traps_catch_an_import():
    """A test of the tests: were the traps not seen, the ones around would prove nothing."""
    caught = in_fresh_process(
        TRAP,
        """
        import json
        caught = []
        for name in OPTIONAL:
            try:
                __import__(name + ".inside")
            except RuntimeError as error:
                caught.append(str(error))
        print(json.dumps(caught))
        """,
    )
    assert caught == [f"{name} was imported" for name in OPTIONAL]


def test_what_is_not_installed_is_said_in_a_sentence():
    said = in_fresh_process(
        HIDE,
        """
        import json
        import seqscope as sq
        said = {}
        for name, ask in {"zoo": sq.zoo.japanese_vowels, "scope": lambda: sq.Scope(object())}.items():
            try:
                ask()
            except sq.errors.SeqscopeError as error:
                said[name] = [type(error).__name__, str(error)]
        print(json.dumps(said))
        """,
    )
    assert said["zoo"][0] == "MissingPackageError"
    assert "'torch'" in said["zoo"][1]
    assert "pip install 'seqscope[torch]'" in said["zoo"][1]
    assert said["scope"][0] == "ModelError"
    assert "A builtins.object is not a model of a known framework" in said["scope"][1]


def test_the_import_changes_nothing_in_the_process_and_prints_nothing():
    before, with_seqscope, with_plot = in_fresh_process(
        """
        import json, locale, logging, os, random, signal, sys, threading, warnings
        import matplotlib.pyplot as plt
        import matplotlib, numpy, pandas, rich.console, rich.table, scipy.cluster.hierarchy, xarray

        def state():
            return repr({
                "environment": dict(os.environ), "path": sys.path, "finders": sys.meta_path, "hooks": [sys.excepthook, sys.displayhook],
                "warnings": warnings.filters, "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
                "threads": threading.active_count(), "logging": logging.root.handlers, "locale": locale.setlocale(locale.LC_ALL),
                "numpy": [numpy.geterr(), numpy.get_printoptions(), numpy.random.get_state()], "random": hash(random.getstate()),
                "xarray": dict(xarray.core.options.OPTIONS), "colormaps": sorted(matplotlib.colormaps),
                "matplotlib": [dict(matplotlib.rcParams), matplotlib.get_backend(), plt.get_fignums(), sorted(plt.style.available)],
            })

        states = [state()]
        import seqscope
        states.append(state())
        seqscope.plot, seqscope.units
        states.append(state())
        print(json.dumps(states))
        """
    )
    assert with_seqscope == before
    assert with_plot == before
