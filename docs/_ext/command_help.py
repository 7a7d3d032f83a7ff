"""Directive ``command-help``: what a command of eoseg prints for ``--help``."""

import contextlib
import io
import os

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from eoseg.main import main

#: Columns of the text.
WIDTH = 88


class CommandHelp(SphinxDirective):
    """Show the help of a command, made by running it."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        words = self.arguments[0].split() if self.arguments else []
        text = io.StringIO()
        columns = os.environ.get('COLUMNS')
        os.environ['COLUMNS'] = str(WIDTH)
        try:
            with contextlib.redirect_stdout(text):
                status = main([*words, '--help'])
        finally:
            if columns is None:
                del os.environ['COLUMNS']
            else:
                os.environ['COLUMNS'] = columns
        if status:
            raise self.error(f'eoseg {" ".join(words)} --help exits with {status}')
        block = nodes.literal_block(text.getvalue().strip(), text.getvalue().strip())
        block['language'] = 'text'
        # It depends on code and on no page: made anew in each build.
        self.env.note_reread()
        return [block]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive('command-help', CommandHelp)
    return {'parallel_read_safe': True}
