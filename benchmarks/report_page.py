"""A report as one HTML page that asks for nothing from outside."""

from __future__ import annotations

import re

from audience.benchmarks.report_blocks import Block, Cell, Code, Folded, Pictures, Report
from audience.benchmarks.report_drawing import COLOURS, STYLE, clean


def html(report: Report) -> str:
    """One page that asks for nothing from outside."""
    anchors = [_anchor(section.title) for section in report.sections]
    links = "\n".join(
        f'<a href="#{anchor}">{clean(section.title)}</a>'
        for anchor, section in zip(anchors, report.sections, strict=True)
    )
    parts = "\n".join(
        f'<section id="{anchor}">\n<h2>{clean(section.title)}</h2>\n'
        f"{_all(section.blocks)}\n</section>"
        for anchor, section in zip(anchors, report.sections, strict=True)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n'
        # Browsers ask for an icon of their own accord unless there is one.
        f'<link rel="icon" href="data:,">\n'
        f"<title>{clean(report.title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f'<header>\n<h1>{clean(report.title)}</h1>\n<p class="about">{clean(report.about)}</p>\n'
        f'<p class="answer">{clean(report.answer)}</p>\n<nav>\n{links}\n</nav>\n</header>\n'
        f"<main>\n{parts}\n</main>\n</body>\n</html>\n"
    )


def _all(blocks: list[Block]) -> str:
    return "\n".join(_html(block) for block in blocks)


def _html(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{clean(block)}</p>"
    if isinstance(block, list):
        return "<ul>\n" + "\n".join(f"<li>{clean(item)}</li>" for item in block) + "\n</ul>"
    if isinstance(block, Code):
        return f"<pre><code>{clean(block.command)}</code></pre>"
    if isinstance(block, Folded):
        inside = _all(block.blocks)
        return f"<details>\n<summary>{clean(block.title)}</summary>\n{inside}\n</details>"
    if isinstance(block, Pictures):
        figures = "\n".join(
            f"<figure>\n{one.drawing.svg()}\n<figcaption>{clean(one.caption)}</figcaption>\n</figure>"
            for one in block.pictures
        )
        return f'<div class="figures">\n{figures}\n</div>'
    kinds = ["name" if place < block.names else "number" for place in range(len(block.headings))]
    head = "".join(
        f'<th scope="col" class="{kind}">{clean(heading)}</th>'
        for kind, heading in zip(kinds, block.headings, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            # On a phone a row becomes a card, and each cell says its heading itself.
            f'<td class="{kind}" data-label="{clean(heading)}">{_cell(cell)}</td>'
            for kind, heading, cell in zip(kinds, block.headings, row, strict=True)
        )
        + "</tr>"
        for row in block.rows
    )
    # Two columns fit on a phone as they are.
    shape = "pair" if len(kinds) == 2 else "cards"
    return (
        f'<div class="scroll"><table class="{shape}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<span>{clean(cell)}</span>"
    about = f" <small>[{cell.range}]</small>" if cell.range else ""
    return f"<span>{cell.figure}{clean(cell.note)}{about}</span>"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _variables(dark: bool) -> str:
    return "".join(f"--{role}:{pair[dark]};" for role, pair in COLOURS.items())


CSS = f"""
:root{{color-scheme:light dark;{_variables(dark=False)}}}
@media (prefers-color-scheme:dark){{:root{{{_variables(dark=True)}}}}}
{STYLE}
*{{box-sizing:border-box}}
body{{margin:0 auto;padding:2rem 1rem 4rem;max-width:62rem;background:var(--paper);
color:var(--ink);font:1rem/1.55 system-ui,sans-serif;overflow-wrap:break-word}}
.scroll{{overflow-x:auto}}
h1,p,li,summary,figcaption,pre{{overflow-wrap:anywhere}}
h1{{font-size:1.05rem;font-weight:600;color:var(--soft);margin:0}}
h2{{font-size:1.35rem;line-height:1.25;margin:3rem 0 .6rem}}
p,ul{{max-width:44rem;margin:.6rem 0}}
ul{{padding-left:1.2rem}}
li{{margin:.25rem 0}}
.about{{color:var(--soft);margin-top:.1rem}}
.answer{{font-size:clamp(1.3rem,3.2vw,1.8rem);line-height:1.3;font-weight:600;max-width:none;
margin:1.4rem 0;text-wrap:pretty}}
nav{{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;border-block:1px solid var(--grid);
padding:.6rem 0}}
a{{color:var(--rl)}}
table{{border-collapse:collapse;width:100%;margin:1rem 0;font-size:.92rem;
font-variant-numeric:tabular-nums}}
th{{text-align:left;color:var(--soft);font-weight:500;vertical-align:bottom}}
th,td{{padding:.4rem .6rem .4rem 0;border-bottom:1px solid var(--grid)}}
td{{vertical-align:top}}
.number{{text-align:right;padding:.4rem 0 .4rem .6rem}}
td:first-child{{font-weight:600}}
small{{color:var(--soft);font-size:.85em}}
.number small{{display:block;white-space:nowrap}}
.figures{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));
gap:1rem 2rem;margin:1rem 0}}
figure{{margin:0;max-width:32rem}}
.drawing{{display:block;width:100%;height:auto}}
figcaption{{color:var(--soft);font-size:.9rem;margin-top:.4rem}}
details{{margin:1rem 0}}
summary{{cursor:pointer;color:var(--rl)}}
pre{{background:var(--grid);padding:.8rem;border-radius:.4rem;white-space:pre-wrap;font-size:.9rem}}
@media (max-width:44rem){{
.pair td{{overflow-wrap:anywhere}}
.cards thead{{display:none}}
.cards,.cards tbody,.cards tr{{display:block}}
.cards tr{{padding:.6rem 0;border-bottom:1px solid var(--grid)}}
.cards td{{display:flex;gap:1rem;border:0;padding:.1rem 0;text-align:left;
overflow-wrap:anywhere}}
.cards td::before{{content:attr(data-label);color:var(--soft);flex:0 0 9rem}}
.cards small{{display:inline}}
}}
@media print{{nav{{display:none}}}}
""".strip()
"""The page's rules: one column on a phone, where tables become cards, and colours for light and
dark."""
