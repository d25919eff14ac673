"""Archives that would fill the memory, or read other files. None of them is inflated here; what is made is small."""

import io
import zipfile

import h5py
import numpy as np
import pytest

from seqscope.inflation import objection_to_hdf5, objection_to_zip

MEGA = 2**20


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """A `.keras` archive of 130 kB whose settings are 128 MB of blanks."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        with archive.open("config.json", "w") as entry:
            for _ in range(128):
                entry.write(b" " * MEGA)
    return path


def weights(**sets):
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        for name, options in sets.items():
            file.create_dataset(name, **options)
    return held


HUGE = {"shape": (10**6, 10**6), "dtype": "f4", "chunks": (100, 100), "compression": "gzip"}


def test_an_archive_that_declares_far_more_than_it_holds(bomb):
    assert "declares 134 MB in a file of 1" in objection_to_zip(bomb)


def test_what_an_archive_declares_is_added_up(tmp_path):
    with zipfile.ZipFile(tmp_path / "many", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            archive.writestr(f"{number}.json", b" " * 20 * MEGA)
    assert "declares 126 MB" in objection_to_zip(tmp_path / "many")


def test_settings_that_no_network_needs_however_little_they_are_compressed(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", bytes(101 * MEGA))
    assert objection_to_zip(tmp_path / "a.keras") == "holds a config.json of 106 MB, which no network needs"


def test_zeros_that_compress_well_are_no_bomb(tmp_path):
    with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights", bytes(20 * MEGA))
    assert objection_to_zip(tmp_path / "a") is None


def test_an_hdf5_file_that_declares_far_more_than_it_holds():
    found = objection_to_hdf5(weights(w=HUGE), 8000)
    assert found == "declares 4 TB in a file of 8 kB, as files do that are made to fill the memory"


def test_an_hdf5_file_inside_of_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("model.weights.h5", weights(w=HUGE).getvalue())
    assert objection_to_zip(tmp_path / "a.keras").startswith("declares 4 TB")


@pytest.mark.parametrize("kind", ["link", "external", "virtual"])
def test_an_hdf5_file_that_reads_other_files(tmp_path, kind):
    (tmp_path / "secret").write_bytes(b"secret")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if kind == "link":
            file["inside/taken"] = h5py.ExternalLink(str(tmp_path / "secret"), "/")
        elif kind == "external":
            file.create_dataset("inside/taken", shape=(6,), dtype="u1", external=[(str(tmp_path / "secret"), 0, 6)])
        else:
            layout = h5py.VirtualLayout(shape=(3,), dtype="f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret"), "x", shape=(3,))
            file.create_virtual_dataset("inside/taken", layout)
    assert objection_to_hdf5(tmp_path / "a.h5", 1000) == "takes 'inside/taken' from other files"


def test_links_that_go_round_in_circles_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/self"] = file["/"]
        file["b"] = h5py.SoftLink("/b")
        file["a/w"] = np.ones(3)
    assert objection_to_hdf5(tmp_path / "a.h5", 1000) is None
