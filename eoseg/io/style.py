"""Styles with which QGIS shows the maps."""

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from eoseg_datasets.classes import Legend

from .atomic import write_text

# Dark to bright, so that doubtful pixels recede; equal steps look equal (viridis).
_RAMP = ('#440154', '#3b528b', '#21918c', '#5ec962', '#fde725')


def write_qml(path: Path, legend: Legend) -> None:
    """Write the QGIS style of a map of classes.

    QGIS applies it by itself if it lies beside the map and has the same stem.

    Args:
        path: Name of the style, ending in .qml.
        legend: Names and colours of the classes.
    """
    renderer = _renderer('paletted')
    palette = SubElement(renderer, 'colorPalette')
    for value, (name, color) in enumerate(
        zip(legend.classes, legend.colors, strict=True)
    ):
        _entry(palette, 'paletteEntry', str(value), color, name)
    _write(path, renderer)


def write_confidence_qml(path: Path, maximum: float = 1.0) -> None:
    """Write the QGIS style of a map of confidences, from 0 to 100 %.

    Args:
        path: Name of the style, ending in .qml.
        maximum: The value that stands for 100 %. QGIS multiplies by the scale of a
            band before it looks up the colour: it is 1 for a raster of 0 … 254 with
            the scale 1/254, and 254 for the same raster without.
    """
    renderer = _renderer('singlebandpseudocolor')
    top = f'{maximum:g}'
    renderer.attrib.update(classificationMin='0', classificationMax=top)
    shader = SubElement(
        SubElement(renderer, 'rastershader'),
        'colorrampshader',
        colorRampType='INTERPOLATED',
        classificationMode='1',
        clip='0',
        labelPrecision='2',
        minimumValue='0',
        maximumValue=top,
    )
    for step, color in enumerate(_RAMP):
        share = step / (len(_RAMP) - 1)
        _entry(shader, 'item', f'{share * maximum:g}', color, f'{share:.0%}')
    _write(path, renderer)


def _renderer(kind: str) -> Element:
    renderer = Element(
        'rasterrenderer',
        type=kind,
        band='1',
        opacity='1',
        alphaBand='-1',
        nodataColor='',
    )
    SubElement(renderer, 'rasterTransparency')
    return renderer


def _entry(parent: Element, tag: str, value: str, color: str, label: str) -> None:
    SubElement(parent, tag, value=value, color=color, label=label, alpha='255')


def _write(path: Path, renderer: Element) -> None:
    root = Element('qgis', version='3.22', styleCategories='Symbology')
    pipe = SubElement(root, 'pipe')
    pipe.append(renderer)
    SubElement(pipe, 'rasterresampler', maxOversampling='2')
    indent(root)
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    write_text(path, doctype + tostring(root, encoding='unicode') + '\n')
