"""Tests of eoseg.io.report."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from eoseg.io import report as module
from eoseg.io.report import Report, SceneReport, write_report
from eoseg_datasets.classes import Legend

ATTACK = '<script>alert(1)</script>'
LEGEND = Legend(('water', '<b>&"forest'), ('#0072b2', '#e69f00'))
DONE = SceneReport(
    path='2021/a.tif',
    status='done',
    seconds=4,
    megapixels=10,
    nodata=0.125,
    classes={'water': 0.75, '<b>&"forest': 0.25},
    crs='EPSG:32633',
    outputs={'classes': '2021/a b#1_classes.tif'},
)
REPORT = Report(
    command='eoseg predict scenes model.ckpt --out maps',
    checkpoint='model.ckpt',
    started='2026-01-02 03:04:05',
    scenes=[DONE],
    mosaic=None,
    legend=LEGEND,
)


class Page(HTMLParser):
    """Tags, links, pictures and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.styles: list[str] = []
        self.text = ''
        self.feed(path.read_text('utf-8'))
        # Where a line may be broken is no part of the text.
        self.text = ' '.join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            match name:
                case 'href':
                    self.links.append(value or '')
                case 'src':
                    self.pictures.append(value or '')
                case 'style':
                    self.styles.append(value or '')
            assert not name.startswith('on')

    def handle_data(self, data: str) -> None:
        self.text += data


def picture(path: Path, width: int = 900, height: int = 400) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (width, height), '#336699').save(path)


def opened(uri: str) -> Image.Image:
    kind, data = uri.split(',')
    assert kind == 'data:image/png;base64'
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_json_holds_everything(tmp_path: Path) -> None:
    write_report(tmp_path, replace(REPORT, mosaic=replace(DONE, path='mosaic.tif')))
    found = json.loads((tmp_path / 'report.json').read_text('utf-8'))
    assert found['version'] == 1
    assert list(found) == [
        'version',
        'command',
        'checkpoint',
        'started',
        'scenes',
        'mosaic',
        'legend',
    ]
    assert found['legend'] == {
        'classes': list(LEGEND.classes),
        'colors': list(LEGEND.colors),
    }
    assert found['mosaic']['path'] == 'mosaic.tif'
    assert found['scenes'] == [
        {
            'path': '2021/a.tif',
            'status': 'done',
            'reason': None,
            'seconds': 4,
            'megapixels': 10,
            'nodata': 0.125,
            'classes': {'water': 0.75, '<b>&"forest': 0.25},
            'hectares': {},
            'crs': 'EPSG:32633',
            'outputs': {'classes': '2021/a b#1_classes.tif'},
            'quicklook': None,
            'megapixels_per_second': 2.5,
        }
    ]
    assert found['mosaic']['megapixels_per_second'] == 2.5


def test_nothing_in_the_data_becomes_part_of_the_page(tmp_path: Path) -> None:
    evil = SceneReport(
        path=ATTACK,
        status='done',
        reason=ATTACK,
        seconds=1,
        classes={'<b>&"forest': 1.0},
        crs=ATTACK,
        outputs={ATTACK: f'javascript:alert(1)//"onclick="{ATTACK}'},
        quicklook=f'{ATTACK}.png',
    )
    picture(tmp_path / f'{ATTACK}.png')
    scenes = [evil, replace(evil, status='failed'), replace(evil, status='skipped')]
    report = Report(ATTACK, ATTACK, ATTACK, scenes, evil, LEGEND)
    page = Page(write_report(tmp_path, report))
    assert not {'script', 'b>', 'iframe', 'object', 'link'} & set(page.tags)
    assert page.text.count(ATTACK) >= 8
    assert page.pictures
    for link in page.links:
        assert not re.match(r'\s*[a-z]+:', link, re.IGNORECASE)


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    picture(tmp_path / 'a.png')
    scene = replace(DONE, quicklook='a.png')
    page = Page(write_report(tmp_path, replace(REPORT, scenes=[scene], mosaic=scene)))
    text = (tmp_path / 'report.html').read_text('utf-8')
    assert not re.search(r'(https?:)?//|@import|url\(', re.sub(r'data:[^"]+', '', text))
    assert all(uri.startswith('data:image/png;base64,') for uri in page.pictures)
    assert len(page.pictures) == 2
    assert "default-src 'none'" in text


def test_links_lead_to_the_outputs(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, REPORT))
    assert '2021/a b#1_classes.tif' in map(unquote, page.links)
    assert '2021/a%20b%231_classes.tif' in page.links


def test_a_row_tells_status_size_speed_and_nodata(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, REPORT))
    text = page.text.replace('\u202f', ' ')
    for expected in ('2021/a.tif', 'done', '10.0 Mpx', '4.0 s', '2.5', '12.5 %'):
        assert expected in text
    assert 'flex-grow:0.75000;background:#0072b2' in page.styles
    assert 'flex-grow:0.25000;background:#e69f00' in page.styles


def test_failed_and_skipped_scenes_stand_before_the_maps_with_their_reasons(
    tmp_path: Path,
) -> None:
    scenes = [
        DONE,
        SceneReport('notes.txt', 'skipped', 'It is no raster.'),
        SceneReport('b.tif', 'failed', 'The file is truncated; copy it again.'),
        SceneReport('c.tif', 'kept'),
    ]
    page = Page(write_report(tmp_path, replace(REPORT, scenes=scenes)))
    order = [
        'b.tif',
        'The file is truncated; copy it again.',
        'notes.txt',
        'It is no raster.',
        '2021/a.tif',
        'c.tif',
    ]
    positions = [page.text.index(text) for text in order]
    assert positions == sorted(positions)
    assert {'#failed', '#skipped'} <= set(page.links)


def test_the_mosaic_stands_on_top_and_is_shown_larger(tmp_path: Path) -> None:
    picture(tmp_path / 'mosaic.png', 3000, 2000)
    picture(tmp_path / 'a.png', 3000, 2000)
    scene = replace(DONE, quicklook='a.png')
    mosaic = replace(DONE, path='mosaic.tif', quicklook='mosaic.png')
    report = replace(REPORT, scenes=[scene], mosaic=mosaic)
    first, second = (
        opened(uri) for uri in Page(write_report(tmp_path, report)).pictures
    )
    assert first.size == (1600, 1067)
    assert second.size == (360, 240)


def test_a_mosaic_that_failed_says_why(tmp_path: Path) -> None:
    mosaic = SceneReport('mosaic.tif', 'failed', 'The scenes lie too far apart.')
    page = Page(write_report(tmp_path, replace(REPORT, mosaic=mosaic)))
    assert 'Mosaic failed' in page.text
    assert 'The scenes lie too far apart.' in page.text


@pytest.mark.parametrize('content', [None, b'', b'no picture'])
def test_a_missing_or_broken_picture_does_not_stop_the_report(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / 'a.png').write_bytes(content)
    scene = replace(DONE, quicklook='a.png')
    page = Page(write_report(tmp_path, replace(REPORT, scenes=[scene])))
    assert page.pictures == []
    assert 'a.png' in page.links


def test_a_page_of_many_scenes_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, '_MOST_INLINED', 10_000)
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    for i in range(5):
        Image.fromarray(noise).save(tmp_path / f'{i}.png')
    scenes = [replace(DONE, quicklook=f'{i}.png') for i in range(5)]
    page = Page(write_report(tmp_path, replace(REPORT, scenes=scenes)))
    assert 1 <= len(page.pictures) < 5
    assert {f'{i}.png' for i in range(5)} <= set(page.links)


def test_a_run_without_scenes_has_a_report(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, replace(REPORT, scenes=[])))
    assert 'No scene was mapped.' in page.text


def test_a_scene_with_a_name_that_is_no_unicode_is_in_the_report(
    tmp_path: Path,
) -> None:
    name = b'caf\xe9.tif'.decode('utf-8', 'surrogateescape')
    scene = replace(DONE, path=name, outputs={'classes': name})
    page = Page(write_report(tmp_path, replace(REPORT, scenes=[scene])))
    assert 'caf%E9.tif' in page.links
    assert (
        json.loads((tmp_path / 'report.json').read_text())['scenes'][0]['path'] == name
    )
