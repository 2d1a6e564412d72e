"""Tables and figures as LaTeX: booktabs, a caption and a label each."""

import re
from collections.abc import Iterator

import pandas as pd

from plots import markdown

MOST_ROWS, MOST_LETTERS = 40, 85
"""A longer table is divided among pages, and a wider one is made as wide as the text."""
NUMBER = re.compile(r"[<≤≥]? ?[-+−]?\d.*|–|")
NARROWED = "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{"
PACKAGES = "% needs \\usepackage{booktabs,graphicx,longtable,pdflscape,textcomp}\n"

_SYMBOLS: dict[str, str] = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"–": "--", "…": r"\dots{}", "ä": r"\"a", "ö": r"\"o", "ü": r"\"u"},
    **{"−": "$-$", "±": r"$\pm$", "×": r"$\times$", "÷": r"$\div$", "·": r"$\cdot$"},
    **{"≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\to$", "∂": r"$\partial$", "‖": r"$\Vert$"},
    **{"ρ": r"$\rho$", "φ": r"$\varphi$", "θ": r"$\theta$", "λ": r"$\lambda$"},
    **{"⌈": r"$\lceil$", "⌉": r"$\rceil$", "²": "$^2$", "³": "$^3$", "⁴": "$^4$"},
    **{subscript: f"$_{i}$" for i, subscript in enumerate("₀₁₂₃₄₅₆₇₈₉")},
}
_TABLE = {ord(character): written for character, written in _SYMBOLS.items()}


def escaped(text: str) -> str:
    """A text for LaTeX, with LaTeX's special characters escaped."""
    return text.translate(_TABLE)


def figure(name: str, caption: str, label: str, *, is_wide: bool) -> str:
    """A floating figure with the graphics file NAME, over both columns where it is wide."""
    environment = "figure*" if is_wide else "figure"
    return (
        f"\\begin{{{environment}}}\n\\centering\n\\includegraphics{{{name}}}\n"
        f"\\caption{{{escaped(caption)}}}\n\\label{{fig:{label}}}\n\\end{{{environment}}}\n"
    )


def tables(text: str, label: str) -> str:
    """The tables of a Markdown text, each with the paragraphs that belong to it as its caption.

    A table's own paragraph is the one before it; further ones after it are its notes. Labels are
    tab:LABEL-1, ….
    """
    found = [*_captioned(markdown.blocks(text))]
    return PACKAGES + "\n".join(
        _table(frame, caption, f"tab:{label}" + (f"-{i}" if len(found) > 1 else ""))
        for i, (frame, caption) in enumerate(found, start=1)
    )


def _captioned(blocks: "Iterator[str | pd.DataFrame]") -> Iterator[tuple[pd.DataFrame, str]]:
    table: pd.DataFrame | None = None
    said: list[str] = []
    caption: list[str] = []
    for block in blocks:
        if isinstance(block, str):
            said.append(block)
        elif table is None:
            table, caption, said = block, said, []
        else:
            yield table, " ".join([*caption, *said[:-1]])
            table, caption, said = block, said[-1:], []
    if table is not None:
        yield table, " ".join([*caption, *said])


def _table(frame: pd.DataFrame, caption: str, label: str) -> str:
    is_long = len(frame) > MOST_ROWS
    widths = [max(map(len, [str(name), *frame[name]])) for name in frame.columns]
    is_wide = sum(widths) + 2 * len(widths) > MOST_LETTERS
    numeric = [all(map(NUMBER.fullmatch, frame[name])) for name in frame.columns]
    shown = frame.map(escaped).rename(columns=lambda name: escaped(str(name)))
    written = shown.style.hide(axis="index").to_latex(
        hrules=True,
        column_format="".join("r" if each else "l" for each in numeric),
        caption=escaped(re.sub(":$", ".", caption)),
        label=label,
        position=None if is_long else "tbp",
        position_float=None if is_long else "centering",
        environment="longtable" if is_long else "table*" if is_wide else "table",
    )
    if is_long and is_wide:
        return f"\\begin{{landscape}}\\tiny\n{written}\\end{{landscape}}\n"
    if is_long:
        return f"{{\\scriptsize\n{written}}}\n"
    if is_wide:
        written = written.replace("\\begin{tabular}", NARROWED + "\\begin{tabular}")
        written = written.replace("\\end{tabular}", "\\end{tabular}}")
    return str(written)
