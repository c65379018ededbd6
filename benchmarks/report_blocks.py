"""What a report is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from audience.benchmarks.report_drawing import Drawing


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, where it has one, and a mark that a note explains."""

    mean: float
    low: float | None = None
    high: float | None = None
    signed: bool = False
    digits: int = 2
    note: str = ""

    def __str__(self) -> str:
        return f"{self.figure}{f' [{self.range}]' if self.range else ''}{self.note}"

    @property
    def figure(self) -> str:
        """The mean."""
        return number(self.mean, self.digits, self.signed)

    @property
    def range(self) -> str:
        """The interval, empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        low, high = (number(end, self.digits, self.signed) for end in (self.low, self.high))
        return f"{low}, {high}"


Cell = str | Estimate


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first `names` columns hold words, the others numbers."""

    headings: list[str]
    rows: list[list[Cell]]
    names: int = 1


@dataclass(frozen=True)
class Picture:
    """A drawing; its files are called `file`, `caption` stands below."""

    name: str
    caption: str
    drawing: Drawing

    @property
    def file(self) -> str:
        """The name as a name of files."""
        return re.sub(r"[^A-Za-z0-9_-]+", "_", self.name)


@dataclass(frozen=True)
class Pictures:
    """Drawings that stand side by side where there is room."""

    pictures: list[Picture]


@dataclass(frozen=True)
class Folded:
    """What opens on demand."""

    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Code:
    """A command to copy."""

    command: str


Block = str | list[str] | Table | Pictures | Folded | Code
"""A string is a paragraph, a list of strings are bullets."""


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Report:
    """A report: its title, what it is about in a line, the answer, and the parts."""

    title: str
    about: str
    answer: str
    sections: list[Section]

    def pictures(self) -> Iterator[Picture]:
        """Every drawing."""
        for section in self.sections:
            for block in section.blocks:
                if isinstance(block, Pictures):
                    yield from block.pictures


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """A number as it is printed: a true minus sign, and no sign on what rounds to nothing."""
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    return text.lstrip("-+") if not float(text.replace(",", "")) else text.replace("-", "−")
