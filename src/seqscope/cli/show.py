"""The command that shows what there is to see: the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqscope.cli import voice
from seqscope.cli.layers import json_of
from seqscope.cli.options import ForceOption, FrameworkOption
from seqscope.cli.pictures import draw_without_screen
from seqscope.cli.writing import JsonOption, QuietOption


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", "--output", metavar="DIR", help="The folder to write into.")] = Path("seqscope-demo"),
    framework: FrameworkOption = "torch",
    json: JsonOption = False,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Look at what a shipped LSTM does with a spoken vowel: pictures, and one page that holds them all."""
    draw_without_screen()
    from seqscope.demo import run

    made = run(out, framework=framework, force=force)
    files = [str(file) for file in made.files]
    if json:
        voice.write_json(json_of(made.layers) | {"files": files})
        return
    voice.show(made.layers)
    voice.show("\n".join(["Written:", *(f"  {file}" for file in files)]), plain=True)
