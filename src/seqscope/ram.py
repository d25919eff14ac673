"""How much memory there is, and how to say so."""

from __future__ import annotations

import math
import os
from pathlib import Path

from seqscope.errors import TooLargeError

_CGROUP = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Bytes that a new array may take: what the machine has free, or what the container is allowed; None where neither is told."""
    told = [size for size in (_free_on_machine(), _left_in_container()) if size is not None]
    return min(told) if told else None


def _free_on_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, OSError, ValueError):
            return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable")), None)
    return None if kilobytes is None else int(kilobytes) * 1024


def _left_in_container() -> int | None:
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used) + _reclaimable())


def _reclaimable() -> int:
    """Pages of files that the kernel keeps as long as nobody else wants the memory; they count as used."""
    try:
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def in_words(size: float) -> str:
    """Bytes in words.

    >>> in_words(3_400_000_000)
    '3.4 GB'
    """
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(int(math.log(max(size, 1), 1000)), len(units) - 1)
    return f"{size / 1000**power:.3g} {units[power]}"


_FEWER_RESULTS = "ask for fewer layers or fewer sequences at a time, or write them to disk as they come (that is what `record` is for)"


def check_fits(needed: int, what: str, *, instead: str = _FEWER_RESULTS) -> None:
    """Refuse what would not fit, and say what to do instead.

    Raises
    ------
    TooLargeError
        It would take more than there is.
    """
    there = available()
    if there is not None and needed > there:
        raise TooLargeError(
            f"{what[0].upper()}{what[1:]} would take {in_words(needed)} and {in_words(there)} of memory are free: {instead}."
        )
