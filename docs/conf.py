"""Sphinx builds the documentation with this."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / '_ext'))

from eoseg import __version__

project = 'eoseg'
author = 'the authors of eoseg'
copyright = author
version = release = __version__

extensions = [
    'command_help',
    'docstrings',
    'mathml',
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.intersphinx',
    'sphinx_copybutton',
    'sphinx_design',
]
# A second builder puts notebooks into the source folder and would read them as pages.
exclude_patterns = ['_build', 'jupyter_execute', '.jupyter_cache']

myst_enable_extensions = ['colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 3
# Executed when a page is read: a cached output would outlive the code that made it.
nb_execution_mode = 'force'
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True

autoclass_content = 'both'
autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
autodoc_default_options = {'members': True, 'show-inheritance': True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

nitpicky = True
# Names of other projects resolve by their inventories, which need a network.
OTHERS = [
    'affine', 'collections', 'datetime', 'geopandas', 'gpd', 'lightning', 'matplotlib', 'numpy',
    'pandas', 'pathlib', 'pyproj', 'pystac', 'rasterio', 'segment_anything', 'shapely',
    'timm', 'torch', 'torchgeo', 'torchmetrics', 'types',
]  # fmt: skip
nitpick_ignore_regex = [(r'py:.*', rf'({"|".join(OTHERS)})\..*')]
# Docstrings name errors of TorchGeo and rasterio as users catch them.
nitpick_ignore = [
    ('py:exc', name)
    for name in ('DatasetNotFoundError', 'RasterioError', 'RasterioIOError')
]
if os.environ.get('EOSEG_DOCS_INTERSPHINX'):
    intersphinx_mapping = {
        'lightning': ('https://lightning.ai/docs/pytorch/stable', None),
        'numpy': ('https://numpy.org/doc/stable', None),
        'python': ('https://docs.python.org/3', None),
        'rasterio': ('https://rasterio.readthedocs.io/en/stable', None),
        'shapely': ('https://shapely.readthedocs.io/en/stable', None),
        'torch': ('https://pytorch.org/docs/stable', None),
        'torchgeo': ('https://torchgeo.readthedocs.io/en/stable', None),
    }

# A block without a language is what one types, or what is printed.
highlight_language = 'none'

html_math_renderer = 'mathml'
html_theme = 'pydata_sphinx_theme'
html_title = 'eoseg'
html_static_path = ['_static']
html_css_files = ['eoseg.css']
html_show_sourcelink = False
html_theme_options = {
    'show_prev_next': False,
    'secondary_sidebar_items': ['page-toc'],
    'footer_start': ['copyright'],
    'footer_end': ['theme-version'],
    'pygments_light_style': 'default',
}
copybutton_prompt_text = r'\$ '
copybutton_prompt_is_regexp = True
