"""Each labelled pair of real data trains for a few steps."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from eoseg.datamodules import SceneFolderDataModule, WebTilesDataModule
from eoseg.datamodules.scenes import Part, SceneDataModule, Use, divided
from eoseg.tasks import Segmentation
from eoseg_datasets import SceneDataset, paired
from eoseg_datasets.classes import Classes
from eoseg_datasets.labelled_images import with_names
from eoseg_datasets.labels import RasterLabels
from eoseg_datasets.scene import open_scene

OPTICAL = [
    'B1',
    'B2',
    'B3',
    'B4',
    'B5',
    'B6',
    'B7',
    'B8',
    'B8A',
    'B9',
    'B10',
    'B11',
    'B12',
]


class FloodDataModule(SceneDataModule):
    """Radar and optical bands of one place, with water drawn by hand."""

    def __init__(self, root: Path, batch_size: int, patch_size: int) -> None:
        super().__init__(root, batch_size, patch_size)
        classes = Classes.named(['land', 'water'])
        radar, optical, label = (
            root / f'Spain_7370579_{name}_west.tif'
            for name in ('S1Hand', 'S2Hand', 'LabelHand')
        )
        scene = paired(
            with_names(open_scene(radar), ['VV', 'VH']),
            with_names(open_scene(optical), OPTICAL),
        )
        labels = RasterLabels(label, classes, {-1: 255, 0: 0, 1: 1})
        self.flood = SceneDataset([scene], [labels], classes)

    @property
    def parts(self) -> Mapping[Use, Part]:
        """The scene in blocks."""
        return divided(self.flood, self.size, 0.2, 0.2, self.seed)


@pytest.mark.real_data
@pytest.mark.filterwarnings('ignore:The .* does not have many workers')
@pytest.mark.filterwarnings('ignore:.*LeafSpec')
@pytest.mark.parametrize(
    'name, module, channels, classes',
    [
        ('pairs_cloud_l8biome_rgb', SceneFolderDataModule, 3, 2),
        ('pairs_landslide_sichuan', SceneFolderDataModule, 3, 2),
        (
            'pairs_landslide_nepal',
            partial(SceneFolderDataModule, sampling='balanced'),
            3,
            2,
        ),
        ('pairs_vegetation_amazon_forest', SceneFolderDataModule, 3, 2),
        # Three pictures: each is one part of the split.
        ('pairs_grass_panels_ktda', SceneFolderDataModule, 3, 5),
        ('pairs_buildings_oam_ramp', WebTilesDataModule, 3, 2),
        ('pairs_glacier_everest', SceneFolderDataModule, 3, 2),
        ('sar_optical_sen1floods11_spain', FloodDataModule, 15, 2),
    ],
)
def test_a_pair_trains_for_a_few_steps(
    data: Path,
    name: str,
    module: Callable[..., SceneDataModule],
    channels: int,
    classes: int,
) -> None:
    torch.manual_seed(0)
    pairs = module(data / name, batch_size=2, patch_size=64)
    inputs = pairs.inputs
    assert inputs.in_channels == channels
    assert len(inputs.classes) == classes
    task = Segmentation(inputs, 'UNet', {'backbone': 'resnet10t'})
    before = {key: value.clone() for key, value in task.model.state_dict().items()}
    settings: dict[str, Any] = {
        'accelerator': 'cpu', 'max_steps': 2, 'limit_val_batches': 1, 'logger': False,
        'enable_checkpointing': False, 'enable_progress_bar': False,
        'enable_model_summary': False, 'num_sanity_val_steps': 0,
    }  # fmt: skip
    trainer = Trainer(**settings)
    trainer.fit(task, datamodule=pairs)
    assert trainer.global_step == 2
    after = task.model.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(before[key], after[key]) for key in before)
