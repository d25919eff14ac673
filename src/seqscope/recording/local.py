"""The work done by this process: while the model runs on some samples, those before are written and those after are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from seqscope.recording.ledger import Entry
from seqscope.recording.plan import Plan
from seqscope.recording.shards import Made, Shards
from seqscope.sequences import Sequences


def run_here(shards: Shards, plan: Plan, sequences: Sequences, numbers: Sequence[int], lost_inputs: frozenset[int]) -> Iterator[Entry]:
    """Do units of work one after the other, and give the entry of each when it is written.

    Three are in memory at most: one that is read, one that is run, one that is written.

    Parameters
    ----------
    lost_inputs : frozenset of int
        Those whose inputs are to be written too.
    """
    with (
        ThreadPoolExecutor(1, "seqscope-reader") as reader,
        ThreadPoolExecutor(1, "seqscope-statistics") as beside,
        ThreadPoolExecutor(1, "seqscope-writer") as writer,
    ):
        writing: Future[Entry] | None = None
        for number, part in zip(numbers, read_ahead(reader, plan, sequences, numbers), strict=True):
            made = shards.run(number, part)
            if writing is not None:
                yield writing.result()
            writing = writer.submit(_write, shards, made, beside, with_inputs=number in lost_inputs)
            del part, made
        if writing is not None:
            yield writing.result()


def read_ahead(reader: ThreadPoolExecutor, plan: Plan, sequences: Sequences, numbers: Sequence[int]) -> Iterator[Sequences]:
    """The samples of units of work, in memory: while one is in use, the next is read."""

    def read(number: int) -> Sequences:
        return sequences[plan.rows(number)].loaded()

    upcoming = reader.submit(read, numbers[0]) if numbers else None
    for number in [*numbers[1:], None]:
        if upcoming is not None:
            part = upcoming.result()
            upcoming = None if number is None else reader.submit(read, number)
            yield part


def _write(shards: Shards, made: Made, beside: ThreadPoolExecutor, *, with_inputs: bool) -> Entry:
    if with_inputs:
        shards.write_inputs(made.number, made.part)
    return shards.write(made, beside)
