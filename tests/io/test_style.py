"""Tests of eoseg.io.style."""

from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from eoseg.io.cog import MapWriter
from eoseg.io.style import write_confidence_qml, write_qml
from eoseg_datasets.classes import Legend
from eoseg_datasets.grid import Grid

LEGEND = Legend.of(['water', 'trees & "shrubs" <5 m', 'Wälder'])


def test_style_and_map_show_the_same_classes_in_the_same_colours(
    tmp_path: Path,
) -> None:
    where = Grid(CRS.from_epsg(32633), Affine(10, 0, 5e5, 0, -10, 5e6), 3, 2)
    with MapWriter(tmp_path / 'map.tif', where, legend=LEGEND) as writer:
        writer.write(np.zeros((2, 3), np.uint8), 0)
    with closing(rasterio.open(tmp_path / 'map.tif')) as dataset:
        colormap = dataset.colormap(1)
    write_qml(tmp_path / 'map.qml', LEGEND)
    root = ElementTree.parse(tmp_path / 'map.qml').getroot()
    entries = root.findall(
        "pipe/rasterrenderer[@type='paletted'][@band='1']/colorPalette/paletteEntry"
    )
    assert [entry.attrib for entry in entries] == [
        {
            'value': str(value),
            'color': '#{:02x}{:02x}{:02x}'.format(*colormap[value]),
            'label': name,
            'alpha': '255',
        }
        for value, name in enumerate(LEGEND.classes)
    ]


@pytest.mark.parametrize(
    ('maximum', 'values'),
    [(1, [0, 0.25, 0.5, 0.75, 1]), (254, [0, 63.5, 127, 190.5, 254])],
)
def test_the_ramp_of_confidences_ends_at_the_maximum(
    tmp_path: Path, maximum: float, values: list[float]
) -> None:
    write_confidence_qml(tmp_path / 'confidence.qml', maximum)
    shader = ElementTree.parse(tmp_path / 'confidence.qml').find('.//colorrampshader')
    assert shader is not None
    assert [float(item.attrib['value']) for item in shader] == values
    assert [item.attrib['label'] for item in shader] == [
        '0%',
        '25%',
        '50%',
        '75%',
        '100%',
    ]
    assert float(shader.attrib['maximumValue']) == maximum


def test_a_style_says_that_it_is_one_of_qgis(tmp_path: Path) -> None:
    write_qml(tmp_path / 'map.qml', LEGEND)
    assert (tmp_path / 'map.qml').read_text('utf-8').startswith('<!DOCTYPE qgis')
