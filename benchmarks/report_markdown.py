"""A report in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from audience.benchmarks.report_blocks import Block, Code, Folded, Pictures, Report


def markdown(report: Report, folder: str) -> str:
    """The report, with its figures from a folder beside it.

    Args:
        report: What it says.
        folder: The figures' folder, as seen from the file.
    """
    lines = [f"# {_plain(report.title)}", _plain(report.about), f"**{_plain(report.answer)}**"]
    for section in report.sections:
        lines += [f"## {_plain(section.title)}", *_lines(section.blocks, folder)]
    return "\n\n".join(lines) + "\n"


def _lines(blocks: list[Block], folder: str) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, str):
            yield _plain(block)
        elif isinstance(block, list):
            yield "\n".join(f"- {_plain(item)}" for item in block)
        elif isinstance(block, Code):
            yield f"    {block.command}"
        elif isinstance(block, Folded):
            yield f"### {_plain(block.title)}"
            yield from _lines(block.blocks, folder)
        elif isinstance(block, Pictures):
            for one in block.pictures:
                caption = _plain(one.caption)
                yield f"![{caption}]({folder}/{one.file}.png)\n\n*{caption}*"
        else:
            rule = ["---" if i < block.names else "---:" for i in range(len(block.headings))]
            heads = [_plain(heading) for heading in block.headings]
            table = [heads, rule, *([_plain(str(c)) for c in row] for row in block.rows)]
            yield "\n".join(f"| {' | '.join(row)} |" for row in table)


def _plain(text: str) -> str:
    """Text that Markdown neither formats nor takes for tags or cells."""
    return re.sub(r"([\\`*<>|#\[\]])", r"\\\1", " ".join(text.split()))
