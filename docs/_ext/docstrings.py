"""Google docstrings whose types stand in the signature alone."""

import re
from typing import Any

from docutils import nodes
from numpy.typing import ArrayLike
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util.typing import stringify_annotation

# Without it, "Attributes:" describes an attribute twice.
CONFIG = Config(napoleon_use_ivar=True)

# As autodoc writes NDArray[X] and ArrayLike.
ARRAY = re.compile(
    r'~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[([^]]+)\]\]'
)
ARRAY_LIKE = stringify_annotation(ArrayLike, 'smart'), '~numpy.typing.ArrayLike'


class Docstring(GoogleDocstring):
    """A docstring in which a colon is a colon.

    Napoleon takes what precedes one for a type, in ``Returns:`` and in the first line of
    an attribute.
    """

    def _consume_returns_section(
        self, preprocess_types: bool = False
    ) -> list[tuple[str, str, list[str]]]:
        lines = self._dedent(self._consume_to_next_section())
        return [('', '', lines)] if lines else []


def convert(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Turn the sections of a docstring into reStructuredText."""
    kept = [line for line in lines if not line.startswith('Initialize a new ')]
    # What it is of does not matter, but an attribute would be looked at for a type.
    lines[:] = Docstring(kept, CONFIG, None, 'function', name, obj, options).lines()


def shorten(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Write types of numpy as the source has them: at run time they are spelled out."""
    return _shorter(signature), _shorter(returns)


def _shorter(text: str | None) -> str | None:
    return text and ARRAY.sub(r'~numpy.typing.NDArray[\1]', text.replace(*ARRAY_LIKE))


def find_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element
) -> nodes.Element | None:
    """Resolve a name that a docstring gives as its module imports it."""
    if node['refdomain'] != 'py':
        return None
    node['refspecific'] = True
    domain = env.get_domain('py')
    found: nodes.Element | None = domain.resolve_xref(
        env, node['refdoc'], app.builder, node['reftype'], node['reftarget'], node,
        contnode,
    )  # fmt: skip
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    # Napoleon is called from here; as an extension it would look for types again.
    app.setup_extension('sphinx.ext.autodoc')
    app.connect('autodoc-process-docstring', convert)
    app.connect('autodoc-process-signature', shorten)
    app.connect('missing-reference', find_by_last_name)
    return {'parallel_read_safe': True}
