"""`Readable`: results that read like a person's answer where they are printed, in a terminal and in a notebook."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from html import escape
from itertools import groupby


class Readable(abc.ABC):
    """Prints as its `words`; a notebook shows the same with lists and paragraphs. A dataclass needs `repr=False` for it."""

    @abc.abstractmethod
    def words(self) -> str:
        """The answer in words: lines, and lists of lines that begin with `- `."""

    def __str__(self) -> str:
        return self.words()

    def __repr__(self) -> str:
        return self.words()

    def _repr_html_(self) -> str:
        return html(self.words())


def html(words: str) -> str:
    """Lines as paragraphs, lines that begin with `- ` as lists."""
    parts = []
    for listed, lines in groupby(filter(str.strip, words.splitlines()), key=lambda line: line.lstrip().startswith("- ")):
        if listed:
            parts.append("<ul>" + "".join(f"<li>{escape(line.lstrip()[2:])}</li>" for line in lines) + "</ul>")
        else:
            parts += [f"<p>{escape(line.strip())}</p>" for line in lines]
    return "\n".join(parts)


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its heading."""
    heading, *body = [[escape(cell) for cell in row] for row in rows]
    lines = ["".join(f"<th>{cell}</th>" for cell in heading), *("".join(f"<td>{cell}</td>" for cell in row) for row in body)]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of text with columns: numbers to the right, words to the left."""
    columns = [[row[i] for row in rows] for i in range(len(rows[0]))]
    widths = [max(map(len, column)) for column in columns]
    right = [all(not cell or cell[0].isdigit() or cell == "?" for cell in column[1:]) for column in columns]
    placed = ([c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)] for row in rows)
    return ["  ".join(cells).rstrip() for cells in placed]


def size_words(nbytes: int | None) -> str:
    """`784 bytes an example`, also where the size is free."""
    return "a free number of bytes an example" if nbytes is None else f"{nbytes:,} byte{'s' if nbytes != 1 else ''} an example"
