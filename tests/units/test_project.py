"""States on a few axes: scikit-learn's own components over all steps at once."""

import numpy as np
import pytest
import xarray as xr
from sklearn.cluster import DBSCAN
from sklearn.decomposition import PCA, FastICA, IncrementalPCA
from sklearn.manifold import TSNE

import seqscope as sq
from seqscope import errors, units
from seqscope.units import blocks

LENGTHS = np.array([20, 15, 18, 9])


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 200)
    monkeypatch.setattr(blocks, "_PIECE", 30)


def ragged(dtype=np.float64):
    random = np.random.default_rng(0)
    values = (random.standard_normal((4, 20, 6)) @ random.standard_normal((6, 6)) + 5).astype(dtype)
    values[np.arange(20) >= LENGTHS[:, None]] = np.nan
    coords = {"sample": list("pqrs"), "length": ("sample", LENGTHS), "label": ("sample", [0, 1, 0, 1])}
    return xr.DataArray(values, dims=("sample", "time", "unit"), coords=coords, attrs={"layer": "lstm"})


def steps_of(array):
    rows = array.values.reshape(-1, array.shape[-1])
    return rows[~np.isnan(rows).any(axis=1)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_principal_components_are_those_of_all_steps(small_blocks, dtype, tolerance):
    activations = ragged(dtype)
    found, expected = units.project(activations, n_components=4), PCA(4).fit(steps_of(activations).astype(np.float64))
    np.testing.assert_allclose(steps_of(found), expected.transform(steps_of(activations)), atol=tolerance)
    np.testing.assert_allclose(found.explained_variance_ratio, expected.explained_variance_ratio_, rtol=1e-4)


def test_every_path_lies_in_its_place():
    activations, found = ragged(), units.project(ragged())
    assert found.dims == ("sample", "time", "component")
    np.testing.assert_array_equal(np.isnan(found).all("component"), np.isnan(activations).all("unit"))
    assert found.label.values.tolist() == [0, 1, 0, 1]
    assert found.length.values.tolist() == LENGTHS.tolist()
    assert found.attrs["projection"] == "pca"
    assert found.attrs["layer"] == "lstm"


def test_one_sequence():
    found = units.project(ragged().isel(sample=1))
    assert found.dims == ("time", "component")
    assert found.sample == "q"


def test_a_step_that_lacks_a_unit_has_no_place():
    activations = ragged()
    activations[0, 3, 2] = np.nan
    found = units.project(activations)
    assert np.isnan(found[0, 3]).all()
    np.testing.assert_allclose(steps_of(found), PCA(2).fit_transform(steps_of(activations)), atol=1e-10)


def test_an_estimator_is_fitted_on_a_copy(small_blocks):
    estimator = FastICA(3, random_state=0)
    found = units.project(ragged(), estimator)
    np.testing.assert_allclose(steps_of(found), FastICA(3, random_state=0).fit_transform(steps_of(ragged())), atol=1e-8)
    assert not hasattr(estimator, "components_")
    assert found.attrs["projection"] == "FastICA"


def test_an_estimator_that_learns_in_parts_does(small_blocks):
    found = units.project(ragged(), IncrementalPCA(2))
    assert found.sizes["component"] == 2
    assert np.abs(np.corrcoef(steps_of(found)[:, 0], PCA(1).fit_transform(steps_of(ragged()))[:, 0])[0, 1]) > 0.99


def test_an_array_in_chunks_gives_the_same(small_blocks):
    xr.testing.assert_allclose(units.project(ragged().chunk(sample=1)), units.project(ragged()))


def test_the_japanese_vowels_network():
    X, _ = sq.datasets.japanese_vowels("test")
    hidden = sq.Scope(sq.zoo.japanese_vowels()).activations(X, "lstm")
    expected = PCA(2).fit_transform(steps_of(hidden).astype(np.float64))
    np.testing.assert_allclose(steps_of(units.project(hidden)), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda a: a, {"n_components": 7}, errors.DataError, "7 components were asked for and there are 6 units"),
        (lambda a: a, {"n_components": 0}, errors.DataError, "n_components is 0"),
        (lambda a: a * np.nan, {}, errors.DataError, "0 steps with a value in each"),
        (lambda a: a * np.nan, {"method": FastICA()}, errors.DataError, "nothing to project"),
        (lambda a: a.where(a.unit > 0, np.inf), {}, errors.DataError, "Unit 0 is infinite at step 0 of sample p"),
        (lambda a: a, {"method": "umap"}, errors.DataError, "method is 'umap': say one of 'pca'"),
        (lambda a: a, {"method": TSNE()}, errors.UnsupportedError, "t-SNE has none"),
        (lambda a: a, {"method": DBSCAN()}, errors.UnsupportedError, "can't be fitted once and then place states"),
        (lambda a: a.isel(unit=0), {}, errors.DataError, "no units"),
    ],
)
def test_what_can_not_be_projected_is_refused_in_a_sentence(change, options, error, message):
    with pytest.raises(error, match=message):
        units.project(change(ragged()), **options)


def test_an_estimator_that_does_not_fit_is_refused_in_a_sentence():
    X, _ = sq.datasets.japanese_vowels("test")
    few = sq.Scope(sq.zoo.japanese_vowels()).activations(X[:4], "lstm").isel(unit=slice(6))
    with pytest.raises(errors.UnsupportedError, match="such as PCA"):
        sq.units.project(few, PCA)
    for estimator in (PCA(30), IncrementalPCA(30)):
        with pytest.raises(errors.DataError, match="can't be fitted to 6 units"):
            sq.units.project(few, estimator)
