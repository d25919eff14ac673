"""A command as a person types it, run in this process."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from seqscope.cli import main


def typed_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int | str | None, str, str]]:
    """Give what runs a command in a folder: its exit code, its standard output, and in one line its standard error."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "mine", None)  # so that the one which is imported here is gone in the end
    monkeypatch.delitem(sys.modules, "mine")

    def run(*arguments: object) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["seqscope", *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as in a process of its own
            with pytest.raises(SystemExit) as ended:
                main()
        shown, said = capfd.readouterr()
        return ended.value.code, shown, in_a_line(said)

    return run


def in_a_line(text: str) -> str:
    """The words of what was printed in a frame."""
    return " ".join(text.replace("│", " ").split())
