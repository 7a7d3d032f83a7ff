"""Tell what a prediction run did, to programs and to people."""

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from PIL import Image

from eoseg_datasets.classes import Legend

from .atomic import write_json, write_text

Status = Literal['done', 'kept', 'skipped', 'failed']

# In pixels: twice what is shown, for sharp pictures on dense screens.
_THUMBNAIL = 360
_LARGE = 1600
# What a cell shows that has nothing to show.
_NOTHING = '\u2013'
# A page of many scenes stays one that a browser opens; the others get a link.
_MOST_INLINED = 24 * 2**20


@dataclass(frozen=True)
class SceneReport:
    """What became of one scene, or of the mosaic."""

    #: Path of the scene, as it was found.
    path: str
    #: 'kept' is a map that was there already, 'skipped' a file that is no scene.
    status: Status
    #: Why it was skipped or failed, and what to do.
    reason: str | None = None
    seconds: float = 0.0
    megapixels: float = 0.0
    #: Share of pixels without a class, from 0 to 1.
    nodata: float | None = None
    #: Share of each class of the valid pixels, from 0 to 1.
    classes: Mapping[str, float] = field(default_factory=dict)
    #: Hectares of each class on the ground; empty if the map does not lie on Earth.
    hectares: Mapping[str, float] = field(default_factory=dict)
    crs: str | None = None
    #: Files by what they hold; paths relative to the report, with slashes.
    outputs: Mapping[str, str] = field(default_factory=dict)
    #: Path of a picture, relative to the report.
    quicklook: str | None = None

    @property
    def speed(self) -> float | None:
        """Megapixels per second; None where nothing was computed."""
        return self.megapixels / self.seconds if self.seconds else None


@dataclass(frozen=True)
class Report:
    """What a prediction run did."""

    #: What was typed.
    command: str
    checkpoint: str
    #: When the run began.
    started: str
    scenes: list[SceneReport]
    mosaic: SceneReport | None
    legend: Legend


def write_report(folder: Path, report: Report) -> Path:
    """Write report.json and report.html.

    The page needs no other file: pictures are in it, made smaller. Links lead to the
    outputs beside it.

    Args:
        folder: Where both are written, and what paths in the report are relative to.
        report: What happened.

    Returns:
        Path of report.html.
    """
    write_json(folder / 'report.json', {'version': 1, **_entries(report)})
    page = folder / 'report.html'
    write_text(page, _page(report, _pictures(folder, report)))
    return page


def _entries(report: Report) -> dict[str, Any]:
    entries = asdict(report)
    for scene, entry in zip(report.scenes, entries['scenes'], strict=True):
        entry['megapixels_per_second'] = scene.speed
    if report.mosaic:
        entries['mosaic']['megapixels_per_second'] = report.mosaic.speed
    return entries


def _pictures(folder: Path, report: Report) -> dict[str, str]:
    """Pictures to show, as data URIs by path."""
    pictures: dict[str, str] = {}
    if report.mosaic and report.mosaic.quicklook:
        wanted = [(report.mosaic.quicklook, _LARGE)]
    else:
        wanted = []
    wanted += [(s.quicklook, _THUMBNAIL) for s in report.scenes if s.quicklook]
    room = _MOST_INLINED
    for path, side in wanted:
        if path not in pictures and room > 0:
            uri = _data_uri(folder / path, side)
            if uri:
                pictures[path] = uri
                room -= len(uri)
    return pictures


def _data_uri(path: Path, side: int) -> str | None:
    try:
        with Image.open(path, formats=['PNG']) as image:
            small = image.convert('RGB')
    except (OSError, ValueError, Image.DecompressionBombError):
        # A page without a picture is better than none.
        return None
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    if side <= _THUMBNAIL:
        small = small.quantize(128)
    data = io.BytesIO()
    small.save(data, format='PNG', optimize=True)
    return 'data:image/png;base64,' + base64.b64encode(data.getvalue()).decode()


def _page(report: Report, pictures: Mapping[str, str]) -> str:
    by_status = {
        status: [scene for scene in report.scenes if scene.status == status]
        for status in ('failed', 'skipped', 'done', 'kept')
    }
    mapped = [s for s in report.scenes if s.status in ('done', 'kept')]
    sections = [
        _header(report),
        _summary(report.scenes),
        _mosaic(report.mosaic, report.legend, pictures) if report.mosaic else '',
        _reasons('Failed', by_status['failed'], is_open=True),
        _reasons('Skipped', by_status['skipped'], len(by_status['skipped']) <= 8),
        _maps(mapped, report.legend, pictures),
    ]
    body = '\n'.join(section for section in sections if section)
    return _TEMPLATE.replace('%STYLE%', _STYLE).replace('%BODY%', body)


def _header(report: Report) -> str:
    return f"""<header>
<h1>Maps</h1>
<p class="facts"><span>{escape(report.started)}</span>
<span>Checkpoint <b>{escape(report.checkpoint)}</b></span></p>
<pre><code>{escape(report.command)}</code></pre>
</header>"""


def _summary(scenes: Iterable[SceneReport]) -> str:
    scenes = list(scenes)
    counts = Counter(scene.status for scene in scenes)
    done = [scene for scene in scenes if scene.status == 'done']
    megapixels = sum(scene.megapixels for scene in done)
    seconds = sum(scene.seconds for scene in done)
    tiles = [_tile(str(counts['done']), 'done')]
    for status in ('kept', 'skipped', 'failed'):
        if counts[status]:
            tiles.append(_tile(str(counts[status]), status))
    if done:
        tiles.append(_tile(_megapixels(megapixels), 'mapped'))
        tiles.append(_tile(_duration(seconds), 'of work'))
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def _tile(value: str, label: str) -> str:
    # Only these have a section of their own to jump to.
    if label in ('failed', 'skipped'):
        value = f'<a class="{label}" href="#{label}">{value}</a>'
    return f'<div class="tile"><dt>{label}</dt><dd>{value}</dd></div>'


def _mosaic(mosaic: SceneReport, legend: Legend, pictures: Mapping[str, str]) -> str:
    if mosaic.status in ('failed', 'skipped'):
        return _reasons(f'Mosaic {mosaic.status}', [mosaic], is_open=True)
    facts = [
        _megapixels(mosaic.megapixels) if mosaic.megapixels else '',
        escape(mosaic.crs or ''),
        f'{_percent(mosaic.nodata)} nodata' if mosaic.nodata is not None else '',
    ]
    shown = ''.join(f'<span>{fact}</span>' for fact in facts if fact)
    return f"""<section class="card">
<h2>Mosaic</h2>
{_picture(mosaic, pictures, 'large')}
{_bar(mosaic, legend)}
{_legend(legend, mosaic.classes)}
<p class="facts">{shown}</p>
<p class="links">{_links(mosaic)}</p>
</section>"""


def _reasons(title: str, scenes: list[SceneReport], is_open: bool) -> str:
    """Scenes without a map, with the reason of each."""
    if not scenes:
        return ''
    rows = ''.join(
        f'<li><b>{_path(scene.path)}</b>'
        f'<p>{escape(scene.reason or "No reason was given.")}</p></li>'
        for scene in scenes
    )
    name = title.lower().replace(' ', '-')
    opened = ' open' if is_open else ''
    return f"""<details class="card {scenes[0].status}" id="{name}"{opened}>
<summary><h2>{title}</h2> <span class="count">{len(scenes)}</span></summary>
<ul class="reasons">{rows}</ul>
</details>"""


def _maps(
    scenes: list[SceneReport], legend: Legend, pictures: Mapping[str, str]
) -> str:
    if not scenes:
        return (
            '<section class="card"><h2>Scenes</h2><p>No scene was mapped.</p></section>'
        )
    rows = '\n'.join(_row(scene, legend, pictures) for scene in scenes)
    return f"""<section class="card">
<h2>Scenes</h2>
{_legend(legend, {})}
<div class="scroll"><table>
<thead><tr><th></th><th>Scene</th><th>Status</th><th class="number">Size</th>
<th class="number">Time</th><th class="number">Mpx/s</th>
<th class="number">Nodata</th><th class="wide">Classes</th></tr></thead>
<tbody>
{rows}
</tbody></table></div>
</section>"""


def _row(scene: SceneReport, legend: Legend, pictures: Mapping[str, str]) -> str:
    speed = _NOTHING if scene.speed is None else f'{scene.speed:.1f}'
    crs = f'<small>{escape(scene.crs)}</small>' if scene.crs else ''
    return f"""<tr><td>{_picture(scene, pictures, 'thumb')}</td>
<td class="scene"><b>{_path(scene.path)}</b>{crs}<p class="links">{_links(scene)}</p></td>
<td><span class="pill {scene.status}">{scene.status}</span></td>
<td class="number">{_megapixels(scene.megapixels)}</td>
<td class="number">{_duration(scene.seconds) if scene.seconds else _NOTHING}</td>
<td class="number">{speed}</td>
<td class="number">{_NOTHING if scene.nodata is None else _percent(scene.nodata)}</td>
<td>{_bar(scene, legend)}<small>{_largest(scene.classes)}</small></td></tr>"""


def _picture(scene: SceneReport, pictures: Mapping[str, str], kind: str) -> str:
    if scene.quicklook is None:
        return ''
    uri = pictures.get(scene.quicklook)
    content = (
        f'<img class="{kind}" src="{uri}" alt="Map of {escape(scene.path)}">'
        if uri
        else 'picture'
    )
    return f'<a href="{_href(scene.quicklook)}">{content}</a>'


def _bar(scene: SceneReport, legend: Legend) -> str:
    colors = dict(zip(legend.classes, legend.colors, strict=True))
    parts = ''.join(
        f'<i style="flex-grow:{share:.5f};background:{colors[name]}" '
        f'title="{escape(name)} {_percent(share)}{_area(scene, name)}"></i>'
        for name, share in scene.classes.items()
        if share > 0 and name in colors
    )
    return f'<div class="bar">{parts}</div>' if parts else ''


def _area(scene: SceneReport, name: str) -> str:
    return f', {scene.hectares[name]:,.1f} ha' if name in scene.hectares else ''


def _largest(shares: Mapping[str, float]) -> str:
    ranked = sorted(shares.items(), key=lambda entry: -entry[1])
    return escape(', '.join(f'{n} {_percent(s)}' for n, s in ranked[:2] if s > 0))


def _legend(legend: Legend, shares: Mapping[str, float]) -> str:
    entries = ''.join(
        f'<li><i style="background:{color}"></i>{escape(name)}'
        + (f' <small>{_percent(shares[name])}</small>' if name in shares else '')
        + '</li>'
        for name, color in zip(legend.classes, legend.colors, strict=True)
    )
    return f'<ul class="legend">{entries}</ul>'


def _links(scene: SceneReport) -> str:
    return ' '.join(
        f'<a href="{_href(path)}">{escape(name)}</a>'
        for name, path in scene.outputs.items()
    )


def _href(path: str) -> str:
    # A colon is quoted too: no path can pass for a scheme such as javascript:.
    return escape(quote(path, errors='surrogateescape'))


def _path(path: str) -> str:
    """The path, which may be broken after a slash or an underscore."""
    return escape(path).replace('/', '/<wbr>').replace('_', '_<wbr>')


def _percent(share: float) -> str:
    percent = 100 * share
    if 0 < percent < 0.1:
        return '<\u202f0.1\u202f%'.replace('<', '&lt;')
    return f'{percent:.1f}\u202f%'


def _megapixels(megapixels: float) -> str:
    if megapixels >= 10_000:
        return f'{megapixels / 1000:.1f}\u202fGpx'
    return f'{megapixels:.{0 if megapixels >= 100 else 1}f}\u202fMpx'


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f'{seconds:.1f}\u202fs'
    minutes = round(seconds / 60)
    if minutes < 60:
        return f'{seconds / 60:.1f}\u202fmin'
    return f'{minutes // 60}\u202fh {minutes % 60:02d}\u202fmin'


# The policy keeps the page from loading or running anything, whatever is in the data.
_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Maps</title>
<style>
%STYLE%
</style>
</head>
<body>
<main>
%BODY%
</main>
</body>
</html>
"""

_STYLE = """:root {
  color-scheme: light dark;
  --page: #f6f7f8; --card: #fff; --ink: #1d2530; --quiet: #66707d; --line: #e3e6ea;
  --link: #1d5fa8; --done: #23794b; --kept: #4b6584; --skipped: #8a6d1c;
  --failed: #b3332d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181d; --card: #1c2229; --ink: #e4e8ed; --quiet: #97a1ad;
    --line: #2d353f; --link: #84b8ee; --done: #6cc695; --kept: #9db6d3;
    --skipped: #d9b95c; --failed: #f0857e;
  }
  img { opacity: .92; }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif;
}
main { max-width: 1160px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 28px; font-weight: 650; letter-spacing: -.01em; margin: 0 0 4px; }
h2 { font-size: 17px; font-weight: 650; margin: 0; display: inline; }
p { margin: 4px 0; }
small { color: var(--quiet); font-size: 13px; }
a { color: var(--link); text-decoration: none; }
a:hover { text-decoration: underline; }
pre {
  margin: 12px 0 0; padding: 10px 14px; overflow-x: auto; border-radius: 8px;
  border: 1px solid var(--line); background: var(--card); font-size: 13px;
}
.facts { color: var(--quiet); }
.facts span + span::before { content: '·'; margin: 0 8px; }
.facts b { font-weight: 550; color: var(--ink); overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0; }
.tile {
  display: flex; flex-direction: column-reverse; flex: 1 1 120px; padding: 12px 16px; border-radius: 10px; background: var(--card);
  border: 1px solid var(--line);
}
.tile dd {
  margin: 0; font-size: 22px; font-weight: 650; font-variant-numeric: tabular-nums;
}
.tile dt { color: var(--quiet); font-size: 13px; }
.tile .failed { color: var(--failed); } .tile .skipped { color: var(--skipped); }
.card {
  margin: 16px 0; padding: 18px 20px; border-radius: 10px; background: var(--card);
  border: 1px solid var(--line);
}
.card.failed { border-left: 4px solid var(--failed); }
.card.skipped { border-left: 4px solid var(--skipped); }
summary { cursor: pointer; }
.count { color: var(--quiet); }
.reasons { list-style: none; margin: 10px 0 0; padding: 0; }
.reasons li { padding: 8px 0; border-top: 1px solid var(--line); }
.reasons b, .scene b { font-weight: 550; overflow-wrap: anywhere; }
.reasons p { margin: 0; color: var(--quiet); overflow-wrap: anywhere; }
img { display: block; background: #fff; border-radius: 6px; }
.large { width: 100%; max-height: 80vh; object-fit: contain; margin: 12px 0; }
.thumb { width: 150px; height: auto; }
.bar {
  display: flex; height: 14px; border-radius: 4px; overflow: hidden; margin: 2px 0 4px;
}
.bar i { flex: 0 1 0; min-width: 1px; }
.legend {
  display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; margin: 10px 0;
  padding: 0;
}
.legend i {
  display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  margin-right: 6px; border: 1px solid rgb(127 127 127 / 40%);
}
.links a { margin-right: 10px; font-size: 13px; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; }
th {
  text-align: left; color: var(--quiet); font-weight: 500; font-size: 13px;
  padding: 6px 10px;
}
td { padding: 12px 10px; border-top: 1px solid var(--line); vertical-align: top; }
td:first-child, th:first-child { padding-left: 0; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.scene { width: 34%; min-width: 220px; }
.scene small { display: block; }
.wide { width: 24%; min-width: 180px; }
.pill { white-space: nowrap; }
.pill::before {
  content: ''; display: inline-block; width: 8px; height: 8px; border-radius: 50%;
  background: currentcolor; margin-right: 6px;
}
.pill.done { color: var(--done); } .pill.kept { color: var(--kept); }"""
