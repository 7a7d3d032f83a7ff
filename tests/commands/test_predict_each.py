"""Several adapters of one SAM in one run: a map of each, of scenes that are read once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from tiny import WriteRaster

from eoseg.commands import products
from eoseg.commands.each import Shared
from eoseg.inference.match import glance
from eoseg.inputs import CHECKPOINT_FORMAT, CHECKPOINT_KEY, Inputs
from eoseg.io.lock import locked
from eoseg.main import main
from eoseg.models import AdaptedSAM
from eoseg_datasets.scene import Scene

NETWORK: dict[str, Any] = {
    'size': {
        'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'global_attn_indexes': [1],
        'window_size': 3, 'mlp_ratio': 2.0, 'out_chans': 32, 'decoder_mlp': 32,
        'decoder_heads': 2, 'iou_depth': 2, 'iou_hidden': 16,
    },
    'img_size': 32,
}  # fmt: skip


def save(path: Path, seed: int, classes: int, **changes: Any) -> Path:
    """A checkpoint of an adapter that was not trained."""
    inputs = Inputs(
        bands=('R', 'G', 'B'), mean=(100.0,) * 3, std=(50.0,) * 3,
        classes=tuple('abc'[:classes]), colors=('#203040', '#d0c0b0', '#00ff00')[:classes],
        patch_size=32,
    )  # fmt: skip
    torch.manual_seed(seed)
    network = AdaptedSAM(3, classes, **NETWORK)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    frozen = network.frozen()
    state = {
        f'model.{k}': v for k, v in network.state_dict().items() if k not in frozen
    }
    assert network.base is not None
    said = {
        'format': CHECKPOINT_FORMAT,
        'version': '0',
        'inputs': inputs.to_dict() | changes,
        'architecture': 'AdaptedSAM',
        'network': NETWORK,
        'base': network.base._asdict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({'state_dict': state, CHECKPOINT_KEY: said}, path)
    return path


@pytest.fixture
def scenes(write_raster: WriteRaster) -> Path:
    generator = np.random.default_rng(0)
    for name, shape in (('one', (3, 70, 90)), ('two', (3, 40, 50))):
        image = generator.integers(1, 250, shape).astype(np.uint8)
        path = write_raster(f'scenes/{name}.tif', image, bands=('R', 'G', 'B'))
    return path.parent


def classes_of(path: Path) -> Any:
    with rasterio.open(path) as source:
        return source.read(1)


def test_each_adapter_gets_its_map_and_scenes_are_read_once(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(tmp_path / 'a' / 'checkpoints' / 'best.ckpt', 1, 2)
    second = save(tmp_path / 'b' / 'checkpoints' / 'best.ckpt', 2, 2)
    read: list[object] = []
    stored = Scene.read_stored

    def counted(self: Scene, *arguments: Any) -> Any:
        read.append(arguments)
        return stored(self, *arguments)

    def picture(scene: Scene, side: int) -> Any:
        """Each report has pictures of the scenes, which do not count."""
        before = len(read)
        shown = glance(scene, side)
        del read[before:]
        return shown

    monkeypatch.setattr(Scene, 'read_stored', counted)
    monkeypatch.setattr(products, 'glance', picture)

    def reads(*words: object) -> int:
        read.clear()
        assert main(['predict', str(scenes), *map(str, words)]) == 0
        return len(read)

    alone = tmp_path / 'alone'
    counts = [
        reads(first, '--out', alone / 'a'), reads(second, '--out', alone / 'b'),
    ]  # fmt: skip
    out = tmp_path / 'together'
    assert [reads(first, second, '--each', '--out', out)] * 2 == counts
    for name in ('a', 'b'):
        for scene in ('one', 'two'):
            mapped = classes_of(alone / name / f'{scene}_classes.tif')
            shared = classes_of(out / name / f'{scene}_classes.tif')
            assert np.array_equal(mapped, shared)
        assert (out / name / 'mosaic.tif').is_file()
        assert (out / name / 'report.html').is_file()
        assert not (out / name / '.units').exists()
    apart = [classes_of(out / name / 'one_classes.tif') for name in ('a', 'b')]
    assert not np.array_equal(*apart)


def test_a_second_run_computes_nothing(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save(tmp_path / f'{name}.ckpt', n, 2 + n) for n, name in enumerate('ab')]
    words = ['predict', str(scenes), *map(str, paths), '--each', '--no-mosaic']
    words += ['--out', str(tmp_path / 'maps')]
    assert main(words) == 0
    monkeypatch.setattr(AdaptedSAM, 'forward', None)
    assert main(words) == 0


def test_what_was_computed_for_all_is_not_computed_again_after_a_kill(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save(tmp_path / f'{name}.ckpt', n, 2) for n, name in enumerate('ab')]
    out = tmp_path / 'maps'
    words = ['predict', str(scenes), *map(str, paths), '--each', '--out', str(out)]
    begin = Shared.begin

    def killed(self: Shared, number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt
        begin(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Shared, 'begin', killed)
        assert main(words) == 130
    assert (out / 'a' / 'two_classes.tif').is_file()
    assert not (out / 'b' / 'two_classes.tif').exists()
    monkeypatch.setattr(AdaptedSAM, 'forward', None)
    assert main(words) == 0
    assert (out / 'b' / 'two_classes.tif').is_file()
    assert not (out / 'a' / '.units').exists()


def test_a_folder_that_another_run_writes_into_is_left_alone(
    tmp_path: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [save(tmp_path / f'{name}.ckpt', n, 2) for n, name in enumerate('ab')]
    out = tmp_path / 'maps'
    words = ['predict', str(scenes), *map(str, paths), '--each', '--out', str(out)]
    with locked(out / 'b'):
        assert main(words) == 1
    assert 'another run' in capsys.readouterr().err
    assert not list(out.rglob('*.tif'))


def test_checkpoints_that_see_something_else_are_refused(
    tmp_path: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = save(tmp_path / 'a.ckpt', 1, 2)
    other = save(tmp_path / 'b.ckpt', 2, 2, patch_size=64)
    words = ['predict', str(scenes), str(first), str(other), '--each']
    assert main([*words, '--out', str(tmp_path / 'maps')]) == 1
    assert 'patch_size are 32 and 64' in capsys.readouterr().err
