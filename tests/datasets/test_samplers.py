"""Samplers drop nothing, leave no region, and draw the same in every process."""

import json
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from numpy.typing import NDArray
from rasterio.windows import Window
from tiny import WriteRaster, ramp
from torch import distributed
from torch.utils.data import DataLoader, Dataset

from eoseg_datasets.census import Density, count_classes, take_census
from eoseg_datasets.grid import Grid
from eoseg_datasets.samplers import GridSceneSampler, RandomSceneSampler
from eoseg_datasets.scene import Scene, ScenePatch, open_scene

window = st.builds(
    Window,
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(1, 40),
    st.integers(1, 40),
)
regions = st.lists(
    st.builds(ScenePatch, st.integers(0, 3), window, st.none()), min_size=1
)


def corners(patches: list[ScenePatch]) -> NDArray[np.int64]:
    return np.array([(p.window.row_off, p.window.col_off) for p in patches])


@settings(deadline=None, max_examples=50)
@given(regions=regions, size=st.integers(1, 24), seed=st.integers(0, 9))
def test_random_patches_stay_in_a_region_or_begin_with_one_that_is_smaller(
    regions: list[ScenePatch], size: int, seed: int
) -> None:
    allowed = set()
    for scene, at, _ in regions:
        left, top, width, height = map(int, at.flatten())
        rows = range(top, max(top + height - size, top) + 1)
        cols = range(left, max(left + width - size, left) + 1)
        allowed |= {(scene, row, col) for row in rows for col in cols}
    patches = list(RandomSceneSampler(regions, size, 40, seed))
    assert len(patches) == 40
    assert {(p.scene, p.window.row_off, p.window.col_off) for p in patches} <= allowed
    assert all(p.window.width == p.window.height == size for p in patches)


def test_regions_are_drawn_in_proportion_to_their_area() -> None:
    sizes = [(10, 10), (40, 20), (5, 20)]
    regions = [ScenePatch(i, Window(0, 0, w, h)) for i, (w, h) in enumerate(sizes)]
    drawn = Counter(p.scene for p in RandomSceneSampler(regions, 16, 10_000))
    assert [drawn[i] / 10_000 for i in range(3)] == pytest.approx(
        [0.1, 0.8, 0.1], abs=0.02
    )


def test_the_edge_of_a_region_is_seen_almost_as_often_as_its_middle() -> None:
    region = ScenePatch(0, Window(0, 0, 64, 64))
    starts = corners(list(RandomSceneSampler([region], 16, 20_000)))[:, 0]
    seen = np.array([((starts <= i) & (i < starts + 16)).mean() for i in range(64)])
    # With every patch equally likely, the first pixel would be seen 0.02 times.
    assert seen[0] > seen[24:40].mean() / 5
    assert seen.min() == min(seen[0], seen[-1])


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    region = ScenePatch(0, Window(0, 0, 999, 999))

    def epoch(seed: int, number: int) -> list[ScenePatch]:
        sampler = RandomSceneSampler([region], 16, 20, seed)
        sampler.set_epoch(number)
        return list(sampler)

    going_on = RandomSceneSampler([region], 16, 20, seed=3)
    assert [list(going_on) for _ in range(3)] == [epoch(3, i) for i in range(3)]
    # Not the sum of the two, or a second run would repeat the first one's epochs.
    epochs = {str(epoch(seed, number)) for seed in range(3) for number in range(3)}
    assert len(epochs) == 9


class ArrayLabels:
    def __init__(self, classes: NDArray[np.uint8]) -> None:
        self.classes = classes

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        rows, cols = window.toslices()
        return np.asarray(self.classes[rows, cols])


def mostly_empty(write_raster: WriteRaster) -> tuple[Scene, NDArray[np.uint8]]:
    """A scene of 96 px, valid in a tenth; a ninth of that is of the second class."""
    image = ramp(1, 96, 96)
    inside = np.zeros((96, 96), bool)
    inside[70:, 60:] = True
    inside[5, ::7] = True
    image[:, ~inside] = 0
    classes = np.zeros((96, 96), np.uint8)
    classes[75:77, 80:84] = 1
    return open_scene(write_raster('a.tif', image, nodata=0)), classes


@pytest.mark.parametrize('size', [8, 11, 40])
def test_no_patch_is_without_a_valid_pixel(
    write_raster: WriteRaster, size: int
) -> None:
    scene, classes = mostly_empty(write_raster)
    regions = [
        ScenePatch(0, Window(2, 3, 94, 60)),
        ScenePatch(0, Window(40, 63, 56, 33)),
    ]
    census = take_census([scene], regions, lambda _: ArrayLabels(classes), 2, side=8)
    for density in (census.even(), census.balanced()):
        patches = list(RandomSceneSampler(regions, size, 500, density=density))
        assert all(scene.valid(patch.window).any() for patch in patches)
        assert {p.window.row_off >= 63 for p in patches} == {True, False}
    everywhere = list(RandomSceneSampler(regions, size, 500))
    assert not all(scene.valid(patch.window).any() for patch in everywhere)


def test_half_of_the_patches_show_the_rarer_of_two_classes(
    write_raster: WriteRaster,
) -> None:
    scene, classes = mostly_empty(write_raster)
    region = ScenePatch(0, Window(0, 0, 96, 96))
    census = take_census([scene], [region], lambda _: ArrayLabels(classes), 2, side=8)

    def share(density: Density) -> float:
        patches = list(RandomSceneSampler([region], 8, 1000, density=density))
        shown = [(classes[p.window.toslices()] == 1).any() for p in patches]
        return float(np.mean(shown))

    assert share(census.balanced()) > 0.5
    assert share(census.even()) < 0.3


@settings(deadline=None, max_examples=40)
@given(side=st.integers(1, 9), more=st.integers(0, 9), seed=st.integers(0, 99))
def test_every_patch_drawn_for_a_class_shows_it(
    side: int, more: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    classes = (rng.random((23, 31)) < 0.05).astype(np.uint8)
    classes[0, 0] = 1
    # Without files: only the rare class, every pixel of it where the census says.
    found = count_classes(classes, np.ones(classes.shape, bool), 2, side)
    rare = found.example[found.kind == 1]
    box = np.concatenate([rare, np.ones_like(rare)], axis=1).astype(np.int64)
    density = Density(np.zeros(len(box), np.int64), box, np.ones(len(box)), side)
    region = ScenePatch(0, Window(0, 0, 31, 23))
    for patch in RandomSceneSampler([region], side + more, 50, seed, density):
        assert classes[patch.window.toslices()].any()


def test_what_cannot_be_drawn_from_is_refused() -> None:
    region = ScenePatch(0, Window(5, 5, 20, 20))
    one = np.array([[5, 5, 1, 1]])
    with pytest.raises(ValueError, match='no region'):
        RandomSceneSampler([], 8, 1)
    with pytest.raises(ValueError, match='cells of 64 px, more than a patch of 8 px'):
        RandomSceneSampler(
            [region], 8, 1, 0, Density(np.array([0]), one, np.ones(1), 64)
        )
    for other in (
        Density(np.array([1]), one, np.ones(1)),
        Density(np.array([0]), one - np.array([0, 1, 0, 0]), np.ones(1)),
        Density(np.array([0]), one + np.array([0, 0, 20, 0]), np.ones(1)),
    ):
        with pytest.raises(ValueError, match='other regions than the 1 given'):
            RandomSceneSampler([region], 8, 1, 0, other)
    with pytest.raises(ValueError, match='nothing to draw'):
        RandomSceneSampler([region], 8, 1, 0, Density(np.array([0]), one, np.zeros(1)))


@settings(deadline=None, max_examples=50)
@given(regions=regions, size=st.integers(1, 24))
def test_a_grid_says_how_long_it_is_and_labels_each_pixel_once(
    regions: list[ScenePatch], size: int
) -> None:
    sampler = GridSceneSampler(regions, size)
    patches = list(sampler)
    assert len(patches) == len(sampler)
    fresh = Counter[tuple[int, int, int]]()
    for scene, _, at in patches:
        assert at is not None
        rows, cols = at.toranges()
        fresh.update((scene, r, c) for r in range(*rows) for c in range(*cols))
    wanted = Counter[tuple[int, int, int]]()
    for scene, at, _ in regions:
        rows, cols = at.toranges()
        wanted.update((scene, r, c) for r in range(*rows) for c in range(*cols))
    assert fresh == wanted


def shards(sampler: Any, processes: int, epoch: int) -> list[list[ScenePatch]]:
    """What each process draws under Lightning."""
    result = []
    for rank in range(processes):
        wrapper = DistributedSamplerWrapper(
            sampler, num_replicas=processes, rank=rank, shuffle=True
        )
        wrapper.set_epoch(epoch)
        result.append(list(wrapper))
    return result


def test_processes_share_one_epoch_among_them() -> None:
    region = ScenePatch(0, Window(0, 0, 999, 999))
    sampler = RandomSceneSampler([region], 16, 30, seed=3)
    alone = RandomSceneSampler([region], 16, 30, seed=3)
    for epoch in (0, 1, 5):
        alone.set_epoch(epoch)
        parts = shards(sampler, 3, epoch)
        assert [len(part) for part in parts] == [10, 10, 10]
        assert sorted(chain(*parts)) == sorted(alone)


def test_no_pixel_is_scored_twice_by_several_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(distributed, 'get_world_size', lambda: 5)
    sampler = GridSceneSampler([ScenePatch(0, Window(7, 9, 50, 37))], 16)
    # 12 patches that show something.
    parts = shards(sampler, 5, epoch=0)
    assert [len(part) for part in parts] == [3, 3, 3, 3, 3]
    fresh = [patch.fresh for part in parts for patch in part]
    assert sum(at.width * at.height for at in fresh if at is not None) == 50 * 37


class Reader(Dataset[torch.Tensor]):
    """Pixels of patches, without TorchGeo."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def __getitem__(self, patch: ScenePatch) -> torch.Tensor:
        return torch.from_numpy(self.scene.read(patch.window)[0])


@pytest.mark.skipif(
    'fork' not in multiprocessing.get_all_start_methods(), reason='no fork here'
)
@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
# More workers than cores make a clash more likely.
@pytest.mark.filterwarnings('ignore:This DataLoader will create 4 worker')
def test_forked_workers_read_the_right_pixels_after_their_parent_has_read(
    write_raster: WriteRaster,
) -> None:
    # Many small blocks: a shared file position is moved by one between seek and read of
    # another. Uncompressed, this gives wrong pixels and no error.
    rng = np.random.default_rng(0)
    image = rng.integers(0, 9999, (1, 2048, 2048), np.uint16)
    blocks = {'tiled': True, 'blockxsize': 16, 'blockysize': 16}
    scene = open_scene(write_raster('a.tif', image, **blocks))
    scene.read(Window(0, 0, 16, 16))  # the parent's handle is open from here on
    region = ScenePatch(0, Window(0, 0, 2048, 2048))
    sampler = RandomSceneSampler([region], 100, 400)
    loader = DataLoader(
        Reader(scene), 4, sampler=sampler, num_workers=4, multiprocessing_context='fork'
    )
    read = torch.cat(list(loader)).numpy()
    sampler.set_epoch(0)
    for values, patch in zip(read, sampler, strict=True):
        rows, cols = patch.window.toslices()
        np.testing.assert_array_equal(values, image[:, rows, cols])


@pytest.mark.slow  # both workers import TorchGeo
def test_spawned_workers_give_the_batches_of_the_main_process(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    from eoseg_datasets import SceneFolder, stack_samples

    write_raster('images/a.tif', ramp(2, 60, 70))
    write_raster('images/b.tif', ramp(2, 20, 30) + np.uint16(7))
    write_raster('labels/a.tif', (ramp(1, 60, 70) % 3).astype(np.uint8))
    dataset = SceneFolder(tmp_path)
    regions = [ScenePatch(0, Window(0, 0, 70, 60)), ScenePatch(1, Window(0, 0, 30, 20))]
    batches = []
    for workers in (0, 2):
        context = 'spawn' if workers else None
        loader = DataLoader(
            dataset,
            batch_size=4,
            sampler=RandomSceneSampler(regions, 32, 12, seed=1),
            num_workers=workers,
            multiprocessing_context=context,
            collate_fn=stack_samples,
        )
        batches.append(list(loader))
    for one, two in zip(*batches, strict=True):
        for key in ('image', 'mask', 'valid', 'scene_transform'):
            torch.testing.assert_close(one[key], two[key], rtol=0, atol=0)


#: Two processes train two epochs, are started again and train a third; each notes what it
#: has been given.
TRAINING = """
import json, sys
from pathlib import Path
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from rasterio.windows import Window
from torch.utils.data import DataLoader, Dataset
from eoseg_datasets.samplers import GridSceneSampler, RandomSceneSampler
from eoseg_datasets.scene import ScenePatch

class Patches(Dataset):
    def __getitem__(self, patch):
        fresh = patch.fresh.width * patch.fresh.height if patch.fresh else 0
        return torch.tensor([patch.window.row_off, patch.window.col_off, fresh])

class Notes(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.notes = []
    def training_step(self, batch, index):
        self.notes.append(['train', self.current_epoch, batch.tolist()])
        return self.layer(batch[:, :1].float()).mean()
    def validation_step(self, batch, index):
        self.notes.append(['val', self.current_epoch, batch.tolist()])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)

def fit(epochs, checkpoint):
    model = Notes()
    trainer = Trainer(
        accelerator='cpu', devices=2, strategy='ddp', max_epochs=epochs, logger=False,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(folder, 'last')],
    )
    regions = [ScenePatch(0, Window(0, 0, 100, 50))]
    trainer.fit(
        model,
        DataLoader(Patches(), 2, sampler=RandomSceneSampler(regions, 16, 8, seed=5)),
        DataLoader(Patches(), 2, sampler=GridSceneSampler(regions[:1], 20)),
        ckpt_path=checkpoint,
    )
    (folder / f'{epochs}-{trainer.global_rank}.json').write_text(json.dumps(model.notes))

if __name__ == '__main__':
    folder = Path(sys.argv[1])
    fit(2, None)
    fit(3, folder / 'last.ckpt')
"""


@pytest.mark.slow  # two processes import Lightning
def test_two_processes_share_each_epoch_also_after_a_restart(tmp_path: Path) -> None:
    script = tmp_path / 'training.py'
    script.write_text(TRAINING)
    subprocess.run(
        [sys.executable, script, tmp_path],
        check=True,
        timeout=280,
        env=os.environ
        | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    region = ScenePatch(0, Window(0, 0, 100, 50))
    alone = RandomSceneSampler([region], 16, 8, seed=5)
    for run, epochs in ((2, [0, 1]), (3, [2])):
        notes = [
            json.loads((tmp_path / f'{run}-{rank}.json').read_text()) for rank in (0, 1)
        ]
        for epoch in epochs:
            train, val = (
                [
                    [row for what, at, rows in note if (what, at) == (use, epoch)
                     for row in rows]
                    for note in notes
                ]
                for use in ('train', 'val')
            )  # fmt: skip
            alone.set_epoch(epoch)
            wanted = [[p.window.row_off, p.window.col_off, 0] for p in alone]
            assert [len(part) for part in train] == [4, 4]
            assert sorted(chain(*train)) == sorted(wanted)
            # 15 patches of a grid and one that is not labelled.
            assert [len(part) for part in val] == [8, 8]
            assert sum(fresh for part in val for *_, fresh in part) == 100 * 50
