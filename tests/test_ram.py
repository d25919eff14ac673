import os

import pytest

from seqscope import ram
from seqscope.errors import TooLargeError

GB = 10**9


@pytest.fixture
def container(tmp_path, monkeypatch):
    """What the kernel tells a container about its memory, as files that a test writes."""
    monkeypatch.setattr(ram, "_CGROUP", tmp_path)
    monkeypatch.setattr(ram, "_free_on_machine", lambda: 64 * GB)

    def tell(limit, used, **statistics):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
        (tmp_path / "memory.stat").write_text("".join(f"{name} {size}\n" for name, size in statistics.items()))

    return tell


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1_500, "1.5 kB"),
        (12_345_678, "12.3 MB"),
        (3_400_000_000, "3.4 GB"),
        (2 * 10**12, "2 TB"),
        (5.5e14, "550 TB"),
    ],
)
def test_bytes_in_words(size, words):
    assert ram.in_words(size) == words


def test_a_container_may_take_what_its_limit_leaves(container):
    container(limit=8 * GB, used=5 * GB)
    assert ram.available() == 3 * GB


def test_a_container_over_its_limit_has_nothing_left(container):
    container(limit=8 * GB, used=9 * GB)
    assert ram.available() == 0


def test_a_container_without_a_limit_may_take_what_the_machine_has(container):
    container(limit="max", used=5 * GB)
    assert ram.available() == 64 * GB


def test_a_machine_smaller_than_the_limit_decides(container):
    container(limit=100 * GB, used=0)
    assert ram.available() == 64 * GB


def test_files_that_the_kernel_keeps_in_memory_do_not_count_as_used(container):
    """The kernel counts the pages of files that were read as used, and gives them back when memory is asked for."""
    container(limit=8 * GB, used=8 * GB, anon=1 * GB, file=7 * GB, inactive_file=6 * GB, active_file=1 * GB)
    assert ram.available() >= 6 * GB


def test_where_nothing_is_told_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ram, "_CGROUP", tmp_path / "none")
    monkeypatch.setattr(ram, "_free_on_machine", lambda: None)
    assert ram.available() is None
    ram.check_fits(10**18, "anything")


def test_the_machines_own_figure_is_in_bytes():
    """Less than all there is, and (were it kilobytes) not a thousandth of it."""
    everything = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = ram._free_on_machine()
    assert free is not None
    assert everything / 1000 < free <= everything


def test_a_result_that_fits_goes_through(container):
    container(limit=8 * GB, used=5 * GB)
    ram.check_fits(3 * GB, "the activations")


def test_a_result_that_does_not_fit_is_refused_with_both_sizes_and_the_way_out(container):
    container(limit=8 * GB, used=5 * GB)
    with pytest.raises(TooLargeError) as caught:
        ram.check_fits(3 * GB + 10**8, "the activations of 'lstm'")
    message = str(caught.value)
    assert message.startswith("The activations of 'lstm' would take 3.1 GB and 3 GB of memory are free")
    assert "`record`" in message
