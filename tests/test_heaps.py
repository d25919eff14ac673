"""A heap in which the HDF5 library would never end: told from a sound one, and refused by whatever opens HDF5 files."""

import io

import h5py
import numpy as np
import pytest
import xarray as xr

import seqscope as sq
from seqscope import errors
from seqscope.heaps import has_endless_heap


@pytest.fixture
def content(tmp_path):
    """A file with a heap: dims are listed by references of any number."""
    xr.DataArray(np.ones((2, 3)), dims=("time", "channel"), name="x").to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    return (tmp_path / "a.nc").read_bytes()


def damaged(content):
    """The first object becomes free space of size 0."""
    place = content.index(b"GCOL") + 16
    return content[:place] + bytes(16) + content[place + 16 :]


def test_a_sound_file_has_none(tmp_path, content):
    assert not has_endless_heap(tmp_path / "a.nc")
    assert not has_endless_heap(io.BytesIO(content))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for number in range(300):  # several heaps, one behind the other, with objects of every length
            file.attrs.create(f"text_{number}", "x" * number * 7, dtype=h5py.string_dtype())
    assert (tmp_path / "b.h5").read_bytes().count(b"GCOL") > 1
    assert not has_endless_heap(tmp_path / "b.h5")


@pytest.mark.parametrize("ending", [".nc", ".mat"])
def test_a_damaged_one_is_refused_before_the_library_reads_it(tmp_path, content, ending):
    path = tmp_path / f"b{ending}"
    path.write_bytes(damaged(content))
    assert has_endless_heap(path)
    with pytest.raises(errors.DataError, match="it has a heap that is damaged, in which reading would never end"):
        sq.read(path)
