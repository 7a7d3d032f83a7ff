"""Formulas as MathML, which browsers show by themselves: no script from elsewhere."""

from html import escape

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

log = logging.getLogger(__name__)


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(convert(node, node.astext(), as_block=False))
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.math_block) -> None:
    text = node.astext()
    # Several lines with & are aligned; LaTeX wants to be told.
    if '&' in text:
        text = rf'\begin{{aligned}}{text}\end{{aligned}}'
    formula = convert(node, text, as_block=True)
    translator.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode


def convert(node: nodes.Element, text: str, *, as_block: bool) -> str:
    try:
        # Docutils knows most commands, but not this one.
        return str(tex2mathml(text.replace(r'\dots', r'\ldots'), as_block=as_block))
    except MathError as error:
        log.warning('%s: %s', error, text, location=node)
        return f'<code>{escape(text)}</code>'


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer('mathml', (inline, None), (block, None))
    return {'parallel_read_safe': True}
