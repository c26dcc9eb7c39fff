"""Tables for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Table(NamedTuple):
    """Cells as text; the first ``left`` columns are aligned left, figures right. ``note`` stands below."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]]
    note: str = ""
    left: int = 2


def to_markdown(table: Table) -> str:
    """The table as Markdown, padded so that it also reads well as plain text."""
    lines = [list(table.columns), *(list(row) for row in table.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    rule = "|".join("-" * (w + 1) + ("-" if i < table.left else ":") for i, w in enumerate(widths))
    body = [_line(line, widths, table.left) for line in lines]
    text = [f"## {table.title}", "", body[0], f"|{rule}|", *body[1:]]
    return "\n".join(text + (["", table.note] if table.note else []))


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    aligned = [cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths))]
    return f"| {' | '.join(aligned)} |"


def show(heading: str, tables: Sequence[Table]) -> None:
    """Print the tables: drawn by rich on a terminal, as Markdown into a file or a pipe."""
    if not sys.stdout.isatty():
        print(document(heading, tables))
        return
    from rich.console import Console

    console = Console()
    console.print(heading, markup=False, highlight=False)
    for table in tables:
        console.print(_drawn(table), table.note, markup=False, highlight=False)


def _drawn(table: Table) -> Any:
    import rich.table
    from rich.text import Text

    drawn = rich.table.Table(title=table.title, title_justify="left")
    for i, name in enumerate(table.columns):
        drawn.add_column(name, justify="left" if i < table.left else "right")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    return drawn


def document(heading: str, tables: Sequence[Table]) -> str:
    """One Markdown document: the heading and what follows it, then the tables."""
    return "\n\n".join([heading, *map(to_markdown, tables)]) + "\n"


def keep(
    arguments: argparse.Namespace, result: dict[str, Any], heading: str, tables: Sequence[Table]
) -> None:
    """Write the files that ``--json`` and ``--markdown`` asked for; each replaces the old one when whole."""
    if arguments.json:
        _replace(arguments.json, json.dumps(result, indent=1) + "\n")
    if arguments.markdown:
        _replace(arguments.markdown, document(heading, tables))


def _replace(path: Path, text: str) -> None:
    """Write beside the file and rename, so that whoever stops the program leaves no half file behind."""
    path = path.resolve()
    if not path.is_file():  # such as /dev/stdout
        path.write_text(text)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """``--json FILE`` and ``--markdown FILE``."""
    parser.add_argument("--json", type=writable, metavar="FILE", help="write all figures and facts to FILE")
    parser.add_argument("--markdown", type=writable, metavar="FILE", help="write the tables to FILE")


def writable(name: str) -> Path:
    """A file that can be written: found out before the minutes of measuring, not after them."""
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {name}: {error.strerror}") from None
    return path


def seconds(value: float) -> str:
    """A duration with three digits and its unit: 850 ns, 12.3 us, 4.56 ms, 1.23 s."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{digits(value / size)} {unit}"
    return f"{value * 1e9:.0f} ns"


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
