"""The task of SAM's adapters: what learns, what a checkpoint holds, and over which base."""

import gc
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from tiny import WriteRaster, ramp
from torch import Tensor, nn
from torch.utils.data import DataLoader

from eoseg.checkpoint import Checkpoint, Ensemble, joint_predictor, load_adapters
from eoseg.errors import CheckpointError
from eoseg.inference.blending import BandBlender
from eoseg.inference.scene import Predict, predict_scene
from eoseg.inference.windows import WindowGrid
from eoseg.inputs import Inputs
from eoseg.models import AdaptedSAM
from eoseg.tasks import SAMAdapter
from eoseg_datasets.scene import open_scene

INPUTS = Inputs(
    bands=('R', 'G', 'B'),
    mean=(100.0, 100.0, 100.0),
    std=(50.0, 50.0, 50.0),
    classes=('background', 'landslide'),
    colors=('#9aa5b1', '#d55e00'),
    patch_size=64,
)
SIZE: dict[str, Any] = {
    'embed_dim': 32, 'depth': 2, 'num_heads': 2, 'global_attn_indexes': [1],
    'window_size': 3, 'mlp_ratio': 2.0, 'out_chans': 32, 'decoder_mlp': 32,
    'decoder_heads': 2, 'iou_depth': 2, 'iou_hidden': 16,
}  # fmt: skip
NETWORK: dict[str, Any] = {'size': SIZE, 'img_size': 64}


def task(inputs: Inputs = INPUTS, seed: int = 0, **arguments: Any) -> SAMAdapter:
    torch.manual_seed(seed)
    network = NETWORK | arguments.pop('network', {})
    return SAMAdapter(inputs, network, **arguments)


def batch(positive: bool = True) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(2, 64, 64, dtype=torch.long)
    if positive:
        mask[:, 16:48, 16:48] = 1
    noise = 10 * torch.randn(2, 3, 64, 64, generator=generator)
    return {
        'image': 100 + 60.0 * mask[:, None] + noise,
        'mask': mask,
        'valid': torch.ones(2, 64, 64, dtype=torch.bool),
    }


def write_base(path: Path, seed: int = 3) -> Path:
    torch.manual_seed(seed)
    whole = AdaptedSAM(3, 2, **NETWORK, adapter='none', freeze=False)
    torch.save(whole.to_sam(), path)
    return path


def write_checkpoint(
    path: Path, trained: SAMAdapter, weights_only: bool = True
) -> Path:
    trainer = Trainer(
        logger=False, enable_checkpointing=False, accelerator='cpu', max_epochs=1,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.strategy.connect(trained)
    trainer.save_checkpoint(path, weights_only=weights_only)
    return path


def changed(trained: SAMAdapter) -> SAMAdapter:
    """As if it had learned something."""
    for parameter in trained.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return trained


# How it learns.


def test_the_loss_is_half_cross_entropy_half_dice() -> None:
    losses = task().losses(batch())
    expected = 0.5 * losses['bce'].item() + 0.5 * losses['dice'].item()
    assert losses['loss'].item() == pytest.approx(expected)


def test_a_batch_without_landslide_has_a_dice_loss() -> None:
    assert task().losses(batch(positive=False))['dice'].item() > 0.9


def test_the_rate_falls_as_a_cosine_once_per_epoch() -> None:
    trained = task()
    trained.trainer = Trainer(
        max_epochs=50, logger=False, enable_checkpointing=False, accelerator='cpu'
    )
    found: Any = trained.configure_optimizers()
    (group,) = found['optimizer'].param_groups
    assert (group['lr'], group['weight_decay']) == (2e-4, 0.01)
    assert {id(p) for p in group['params']} == {
        id(p) for p in trained.parameters() if p.requires_grad
    }
    assert found['lr_scheduler']['interval'] == 'epoch'
    schedule = found['lr_scheduler']['scheduler']
    rates = []
    for _ in range(51):
        rates.append(schedule.get_last_lr()[0])
        found['optimizer'].step()
        schedule.step()
    for epoch in (0, 10, 25, 50):
        cosine = (1 + math.cos(math.pi * epoch / 50)) / 2
        assert rates[epoch] == pytest.approx(1e-7 + (2e-4 - 1e-7) * cosine)


def test_the_rate_falls_with_every_step_where_steps_are_counted() -> None:
    trained = task()
    trained.trainer = Trainer(
        max_epochs=-1, max_steps=40, logger=False, enable_checkpointing=False,
        accelerator='cpu',
    )  # fmt: skip
    found: Any = trained.configure_optimizers()
    assert found['lr_scheduler']['interval'] == 'step'
    assert found['lr_scheduler']['scheduler'].T_max == 40


@pytest.mark.parametrize('adapter', ['mlp1', 'none'])
def test_two_pictures_are_learned_by_heart(adapter: str) -> None:
    trained = task(network={'adapter': adapter})
    optimizer = torch.optim.AdamW(
        [p for p in trained.parameters() if p.requires_grad], lr=5e-3
    )
    data = batch()
    for _ in range(80):
        optimizer.zero_grad()
        torch.autograd.backward(trained.losses(data)['loss'])
        optimizer.step()
    found = trained(data['image']).argmax(1)
    overlap = ((found == 1) & (data['mask'] == 1)).sum()
    assert overlap / ((found == 1) | (data['mask'] == 1)).sum() > 0.9


def test_sam_sees_its_own_statistics_where_white_is_known() -> None:
    assert task(white=255.0).inputs.mean == pytest.approx((123.675, 116.28, 103.53))
    assert task(white=255.0).inputs.std == pytest.approx((58.395, 57.12, 57.375))
    assert task().inputs.mean == INPUTS.mean


def test_bands_by_name_are_red_green_and_blue_of_sam() -> None:
    four = replace(
        INPUTS, bands=('B2', 'B3', 'B4', 'B8'), mean=(1.0,) * 4, std=(1.0,) * 4
    )
    trained = task(four, bands=['B4', 'B3', 'B2'], white=1.0)
    assert trained.model.rgb == [2, 1, 0]
    assert trained.inputs.mean == pytest.approx((0.406, 0.456, 0.485, 1.0))
    with pytest.raises(ValueError, match=r'\(B2, B3, B4, B8\); got B4, B3, B12'):
        task(four, bands=['B4', 'B3', 'B12'])
    with pytest.raises(ValueError, match='have 4 bands; name three'):
        task(four, white=255.0)


def test_colours_change_in_training_alone() -> None:
    trained = task(white=255.0, jitter=True)
    plain = task(white=255.0)
    data = batch()
    torch.manual_seed(1)
    assert trained.losses(data)['loss'].item() != plain.losses(data)['loss'].item()
    seen = [one._count('val', data) for one in (trained, plain)]
    assert torch.equal(*seen)
    with pytest.raises(ValueError, match='give white'):
        task(jitter=True)


# What a checkpoint holds.


def test_a_checkpoint_holds_what_was_trained_and_which_base(tmp_path: Path) -> None:
    base = write_base(tmp_path / 'sam.pth')
    trained = task(network={'weights': str(base)})
    path = write_checkpoint(tmp_path / 'best.ckpt', trained)
    content = torch.load(path, weights_only=True)
    learned = {n for n, p in trained.named_parameters() if p.requires_grad}
    assert content['state_dict'].keys() == learned
    assert trained.model.base is not None
    assert content['eoseg']['base'] == trained.model.base._asdict()
    assert content['eoseg']['base']['file'] == 'sam.pth'
    assert content['eoseg']['network']['weights'] is None


@pytest.mark.parametrize('adapter', ['mlp1', 'serial', 'lora', 'none'])
@pytest.mark.parametrize('weights', [True, False])
def test_an_adapter_loads_by_itself_where_its_base_is(
    tmp_path: Path, weights: bool, adapter: str
) -> None:
    if adapter == 'lora':
        pytest.importorskip('peft')
    network: dict[str, Any] = {'adapter': adapter}
    if weights:
        network['weights'] = str(write_base(tmp_path / 'sam.pth'))
    trained = changed(task(network=network)).eval()
    path = write_checkpoint(tmp_path / 'best.ckpt', trained)
    torch.manual_seed(9)
    predict = Checkpoint.load(path).predictor(torch.device('cpu'))
    expected = trained(batch()['image']).softmax(1)
    torch.testing.assert_close(predict(batch()['image']), expected)


def test_without_freezing_all_is_in_the_checkpoint(tmp_path: Path) -> None:
    trained = changed(task(network={'freeze': False, 'adapter': 'none'})).eval()
    path = write_checkpoint(tmp_path / 'best.ckpt', trained)
    content = torch.load(path, weights_only=True)
    assert content['eoseg']['base'] is None
    assert content['state_dict'].keys() == trained.state_dict().keys()
    predict = Checkpoint.load(path).predictor(torch.device('cpu'))
    expected = trained(batch()['image']).softmax(1)
    torch.testing.assert_close(predict(batch()['image']), expected)


def test_an_adapter_without_its_base_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_base(tmp_path / 'sam_vit_b_01ec64.pth')
    trained = task(network={'weights': str(base)})
    path = write_checkpoint(tmp_path / 'run' / 'best.ckpt', trained)
    assert trained.model.base is not None
    digest = trained.model.base.hash
    monkeypatch.setenv('EOSEG_WEIGHTS', str(tmp_path / 'weights'))
    message = rf'custom {digest}.*Get sam_vit_b_01ec64\.pth from https://dl.*beside'
    with pytest.raises(FileNotFoundError, match=message):
        Checkpoint.load(path)
    monkeypatch.setenv('EOSEG_WEIGHTS', str(tmp_path))
    assert Checkpoint.load(path).inputs == INPUTS


def test_an_adapter_for_another_base_names_both_hashes(tmp_path: Path) -> None:
    trained = task(network={'weights': str(write_base(tmp_path / 'sam.pth'))})
    path = write_checkpoint(tmp_path / 'best.ckpt', trained)
    other = task(network={'weights': str(write_base(tmp_path / 'sam.pth', seed=4))})
    assert trained.model.base is not None and other.model.base is not None
    hashes = f'{trained.model.base.hash}.*{other.model.base.hash}'
    with pytest.raises(CheckpointError, match=hashes):
        Checkpoint.load(path)
    # As when a training goes on.
    content = torch.load(path, weights_only=True)
    with pytest.raises(CheckpointError, match=hashes):
        other.on_load_checkpoint(content)


@pytest.mark.filterwarnings('ignore:The .* does not have many workers')
@pytest.mark.filterwarnings('ignore:.*LeafSpec')
@pytest.mark.filterwarnings('ignore:You defined a `validation_step` but')
def test_training_goes_on_from_an_adapter_alone(tmp_path: Path) -> None:
    def fit(epochs: int, seed: int, checkpoint: Path | None) -> tuple[Trainer, Any]:
        trained = task(seed=seed)
        trainer = Trainer(
            max_epochs=epochs, logger=False, enable_checkpointing=False,
            accelerator='cpu', enable_progress_bar=False, enable_model_summary=False,
            limit_val_batches=0,
        )  # fmt: skip
        batches: Any = [batch()]
        data: Any = DataLoader(batches, batch_size=None)
        trainer.fit(trained, data, ckpt_path=checkpoint)
        return trainer, trained

    trainer, first = fit(1, 0, None)
    trainer.save_checkpoint(tmp_path / 'last.ckpt')
    content = torch.load(tmp_path / 'last.ckpt', weights_only=True)
    frozen = {f'model.{name}' for name in first.model.frozen()}
    assert frozen and frozen.isdisjoint(content['state_dict'])
    _, second = fit(1, 7, tmp_path / 'last.ckpt')
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


@pytest.mark.parametrize('adapter', ['mlp1', 'conv3', 'lora'])
def test_an_adapter_maps_in_bfloat16(tmp_path: Path, adapter: str) -> None:
    if adapter == 'lora':
        pytest.importorskip('peft')
    trained = changed(task(network={'adapter': adapter}))
    checkpoint = Checkpoint.load(write_checkpoint(tmp_path / 'best.ckpt', trained))
    half = Ensemble((checkpoint,)).in_bfloat16().predictor(torch.device('cpu'))
    exact = checkpoint.predictor(torch.device('cpu'))(batch()['image'])
    assert (half(batch()['image']) - exact).abs().mean() < 0.02


# Several adapters over one base.


@pytest.fixture
def adapters(tmp_path: Path) -> list[tuple[Path, SAMAdapter]]:
    base = write_base(tmp_path / 'sam.pth')
    made = []
    for seed, (kind, classes) in enumerate(
        (('mlp1', ('background', 'landslide')), ('none', ('a', 'b', 'c')))
    ):
        inputs = replace(INPUTS, classes=classes, colors=('#000000',) * len(classes))
        trained = changed(
            task(inputs, seed, network={'weights': str(base), 'adapter': kind})
        )
        path = write_checkpoint(tmp_path / f'{kind}.ckpt', trained)
        made.append((path, trained.eval()))
    return made


def storages(checkpoint: Checkpoint) -> set[int]:
    network = checkpoint.network
    assert isinstance(network, AdaptedSAM)
    state = dict(network.named_parameters())
    return {state[n].data_ptr() for n in network.frozen() if n in state}


def test_adapters_of_one_base_have_it_in_memory_once(
    adapters: list[tuple[Path, SAMAdapter]],
) -> None:
    first, second = load_adapters([path for path, _ in adapters])
    assert storages(first) == storages(second)
    predict = joint_predictor([first, second], torch.device('cpu'))
    assert storages(first) == storages(second)  # also where it was moved to
    pictures = batch()['image']
    expected = torch.cat([m(pictures).softmax(1) for _, m in adapters], dim=1)
    found = predict(pictures)
    assert found.shape == (2, 2 + 3, 64, 64)
    torch.testing.assert_close(found, expected)


def test_also_in_bfloat16_the_base_is_in_memory_once(
    adapters: list[tuple[Path, SAMAdapter]],
) -> None:
    loaded = load_adapters([path for path, _ in adapters])

    def made(checkpoints: list[Checkpoint]) -> int:
        """Bytes in bfloat16 of what maps with checkpoints."""
        half = Ensemble(tuple(checkpoints)).in_bfloat16().members
        predict = joint_predictor(half, torch.device('cpu'))
        tensors = [x for x in gc.get_objects() if type(x) in (nn.Parameter, Tensor)]
        short = [x.untyped_storage() for x in tensors if x.dtype == torch.bfloat16]
        del predict, half
        return sum({s.data_ptr(): s.nbytes() for s in short}.values())

    network = loaded[0].network
    assert isinstance(network, AdaptedSAM)
    frozen = network.frozen()
    base = sum(p.numel() for n, p in network.named_parameters() if n in frozen)
    alone = [made([one]) for one in loaded]
    assert made(loaded) == sum(alone) - 2 * base


def test_adapters_map_a_scene_in_one_pass_that_reads_it_once(
    adapters: list[tuple[Path, SAMAdapter]],
    write_raster: WriteRaster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = open_scene(write_raster('scene.tif', ramp(3, 80, 90)))
    read: list[object] = []
    stored = type(scene).read_stored

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        read.append(arguments)
        return stored(self, *arguments, **named)

    monkeypatch.setattr(type(scene), 'read_stored', counted)

    def mapped(predict: Predict, classes: int) -> tuple[Tensor, int]:
        read.clear()
        blender = BandBlender(classes, WindowGrid(80, 90, 64, 16))
        strips = list(predict_scene(scene, predict, blender))
        return torch.cat([strip.probabilities for strip in strips], dim=1), len(read)

    cpu = torch.device('cpu')
    loaded = load_adapters([path for path, _ in adapters])
    together, once = mapped(joint_predictor(loaded, cpu), 2 + 3)
    first, _ = mapped(loaded[0].predictor(cpu), 2)
    second, alone = mapped(loaded[1].predictor(cpu), 3)
    assert once == alone > 0
    torch.testing.assert_close(together, torch.cat([first, second]))


def test_adapters_of_different_bases_are_refused_with_both_hashes(
    adapters: list[tuple[Path, SAMAdapter]], tmp_path: Path
) -> None:
    other = task(network={'weights': str(write_base(tmp_path / 'other.pth', seed=5))})
    path = write_checkpoint(tmp_path / 'other.ckpt', other)
    first = adapters[0][1]
    assert other.model.base is not None and first.model.base is not None
    hashes = f'{other.model.base.hash}.*{first.model.base.hash}'
    with pytest.raises(CheckpointError, match=hashes):
        load_adapters([adapters[0][0], path])


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda: task(network={'freeze': False}), 'no adapter of a frozen SAM'),
        (
            lambda: task(replace(INPUTS, bands=('B4', 'B3', 'B2'))),
            'sees the bands R, G, B, .* sees B4, B3, B2',
        ),
    ],
)
def test_what_shares_no_base_or_bands_is_refused(
    tmp_path: Path, change: Callable[[], SAMAdapter], message: str
) -> None:
    first = write_checkpoint(tmp_path / 'first.ckpt', task())
    second = write_checkpoint(tmp_path / 'second.ckpt', change())
    with pytest.raises(CheckpointError, match=message):
        load_adapters([first, second])
