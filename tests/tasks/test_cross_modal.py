"""Teacher and student: what is trained, what is saved, what is compared where."""

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from eoseg.checkpoint import Checkpoint
from eoseg.errors import CheckpointError
from eoseg.inputs import Inputs
from eoseg.tasks import CrossModalDistillation, Segmentation
from eoseg.tasks.cross_modal import load_teacher
from eoseg.transforms import RandomFlips

pytestmark = [
    pytest.mark.filterwarnings('ignore:The .* does not have many workers'),
    pytest.mark.filterwarnings('ignore:.*LeafSpec'),
    pytest.mark.filterwarnings('ignore:You defined a `validation_step` but'),
]

BANDS = ('VV', 'VH', 'B2', 'B3', 'B4')
INPUTS = Inputs(
    bands=BANDS,
    mean=(-12.0, -18.0, 800.0, 700.0, 600.0),
    std=(4.0, 4.0, 300.0, 300.0, 300.0),
    classes=('land', 'water'),
    colors=('#c8b98f', '#1f6fb4'),
    patch_size=32,
)
SAR = {'VV': 'dB', 'VH': 'dB'}
TINY = {'backbone': 'resnet10t', 'channels': 8}


def batch(seed: int = 0) -> dict[str, Tensor]:
    """Pairs whose first optical image lacks its upper half, and labels everywhere."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, 5, 32, 32, generator=generator)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (INPUTS.mean, INPUTS.std))
    image = mean + std * noise
    image[0, 2:, :16] = math.nan
    return {
        'image': image,
        'mask': (noise[:, 0] > 0).long(),
        'valid': torch.ones(2, 32, 32, dtype=torch.bool),
    }


def task(**arguments: Any) -> CrossModalDistillation:
    torch.manual_seed(0)
    named: dict[str, Any] = {'sar': SAR, 'network': TINY, 'lr': 1e-3} | arguments
    return CrossModalDistillation(INPUTS, **named)


def quiet(steps: int) -> Trainer:
    settings: dict[str, Any] = {
        'accelerator': 'cpu', 'max_steps': steps, 'logger': False,
        'enable_checkpointing': False, 'enable_progress_bar': False,
        'enable_model_summary': False, 'limit_val_batches': 0,
    }  # fmt: skip
    return Trainer(**settings)


def fit(
    module: Any, steps: int = 2, flips: bool = False, bands: int = len(BANDS)
) -> Trainer:
    trainer = quiet(steps)
    change = RandomFlips()
    batches = [batch(seed) for seed in range(steps)]
    torch.manual_seed(1)

    def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        item = items[0] | {'image': items[0]['image'][:, :bands]}
        return change(item) if flips else item

    loader: DataLoader[Any] = DataLoader(batches, batch_size=1, collate_fn=collate)  # type: ignore[arg-type]
    trainer.fit(module, loader)
    return trainer


@pytest.fixture(scope='module')
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A teacher that has seen two batches."""
    path = tmp_path_factory.mktemp('teacher') / 'best.ckpt'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        trainer = fit(task(stage='teacher'))
        trainer.save_checkpoint(path, weights_only=True)
    return str(path)


def test_a_teacher_sees_optical_bands_and_a_student_radar(teacher: str) -> None:
    assert task(stage='teacher').inputs.bands == ('B2', 'B3', 'B4')
    student = task(teacher=teacher)
    assert student.inputs.bands == ('VV', 'VH')
    assert student.inputs.mean == (-12.0, -18.0)
    convolutions = _first(student), _first_of_teacher(student)
    assert [one.in_channels for one in convolutions] == [2, 3]


def test_state_dicts_of_both_have_the_same_keys(teacher: str) -> None:
    ours = task().state_dict()
    theirs = task(stage='teacher').state_dict()
    assert ours.keys() == theirs.keys()


def test_the_teacher_is_frozen_and_the_student_learns(teacher: str) -> None:
    module = task(teacher=teacher)
    frozen = _teacher(module)
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    ours = {key: value.clone() for key, value in module.state_dict().items()}
    trainer = fit(module)
    after = frozen.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert 'network.alignment.laterals.0.1.running_mean' in before
    held = {
        id(p) for group in trainer.optimizers[0].param_groups for p in group['params']
    }
    assert not held & {id(p) for p in frozen.parameters()}
    changed = {
        key
        for key, value in module.state_dict().items()
        if not torch.equal(value, ours[key])
    }
    assert 'model.head.weight' in changed
    assert 'distance.projectors.z.0.weight' in changed
    assert not any('teacher' in key for key in ours)


def test_the_loss_is_the_sum_of_its_terms(teacher: str) -> None:
    module = task(teacher=teacher, distillation={'weight': 0.5, 'logits': 2.0})
    losses = module.losses(batch())
    terms = ('segmentation', 'distillation', 'logits')
    assert losses['loss'].item() == pytest.approx(sum(losses[t].item() for t in terms))
    levels = [
        losses[f'distance_{level}'].item() for level in ('f1', 'f2', 'f3', 'f4', 'z')
    ]
    assert losses['distillation'].item() == pytest.approx(0.5 * sum(levels) / 5)


def test_missing_optical_pixels_count_for_the_labels_alone(teacher: str) -> None:
    module = task(teacher=teacher).eval()
    other = batch()
    other['image'][0, 2:, :16] = 5000.0  # what a cloud would be, had it not been masked
    masked, clouded = module.losses(batch()), module.losses(other)
    assert masked['segmentation'] == clouded['segmentation']
    assert masked['distillation'] != clouded['distillation']
    wrong = batch()
    wrong['mask'][0, :16] = 1 - wrong['mask'][0, :16]
    relabelled = module.losses(wrong)
    assert relabelled['segmentation'] != masked['segmentation']
    assert relabelled['distillation'] == masked['distillation']


def test_a_teacher_does_not_learn_labels_of_what_it_does_not_see() -> None:
    module = task(stage='teacher').eval()
    wrong = batch()
    wrong['mask'][0, :16] = 1 - wrong['mask'][0, :16]
    assert module.losses(batch())['loss'] == module.losses(wrong)['loss']


def test_missing_optical_pixels_are_flipped_with_the_rest() -> None:
    torch.manual_seed(0)
    given = batch()
    given['mask'] = given['image'][:, 2].isnan().long()
    flips = RandomFlips()
    places = set()
    for _ in range(8):
        flipped = flips(given)
        missing = flipped['image'][:, 2].isnan()
        assert torch.equal(missing, flipped['mask'].bool())
        places.add(bool(missing[0, 0, 0]))
    assert places == {True, False}


def test_pairs_without_labels_teach_the_student(teacher: str) -> None:
    module = task(teacher=teacher)
    given = batch()
    given['mask'][:] = 255
    losses = module.losses(given)
    assert losses['segmentation'] == 0
    torch.autograd.backward(losses['loss'])
    gradient = _first(module).weight.grad
    assert gradient is not None and gradient.abs().sum() > 0


def test_without_weight_training_is_that_on_radar_alone(teacher: str) -> None:
    """The same to the last bit, with flips that draw from the same numbers."""
    unweighted = task(teacher=teacher, distillation={'weight': 0.0})
    alone = task()
    torch.manual_seed(0)
    plain = Segmentation(alone.inputs, 'HFDNet', TINY, lr=1e-3)
    fit(unweighted, steps=3, flips=True)
    fit(alone, steps=3, flips=True)
    fit(plain, steps=3, flips=True, bands=2)
    expected = plain.model.state_dict()
    for module in (unweighted, alone):
        state = module.model.state_dict()
        assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_a_teacher_does_not_disturb_the_random_numbers(teacher: str) -> None:
    states = []
    for arguments in ({}, {'teacher': teacher}):
        task(**arguments)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_radar_alone_is_enough_to_test_and_to_map(teacher: str, tmp_path: Path) -> None:
    module = task(teacher=teacher)
    trainer = fit(module)
    trainer.save_checkpoint(tmp_path / 'best.ckpt', weights_only=True)
    state = torch.load(tmp_path / 'best.ckpt', weights_only=True)
    assert {key.split('.')[0] for key in state['state_dict']} == {'model'}
    assert state['eoseg']['inputs']['bands'] == ['VV', 'VH']
    assert state['eoseg']['origin']['teacher']['weights']
    radar = batch()['image'][:, :2]
    predict = Checkpoint.load(tmp_path / 'best.ckpt').predictor(torch.device('cpu'))
    with torch.no_grad():
        expected = module.eval()(radar).softmax(dim=1)
    torch.testing.assert_close(predict(radar), expected, atol=1e-5, rtol=1e-4)
    alone = batch() | {'image': radar}
    assert torch.equal(_counted(module, alone), _counted(module, batch()))
    with pytest.raises(ValueError, match='learns from the bands VV, VH, B2, B3, B4'):
        module.losses(alone)


def test_units_and_limits_are_in_the_checkpoint(tmp_path: Path) -> None:
    linear = Inputs.from_dict(INPUTS.to_dict() | {'mean': [0.06, 0.02, 8, 7, 6]})
    module = CrossModalDistillation(
        linear,
        {'VV': 'power', 'VH': 'amplitude'},
        network=TINY,
        radar={'limits': {'VV': [-25, 0]}, 'filter': [3, 4.4], 'looks': 8},
    ).eval()
    trainer = Trainer(accelerator='cpu', logger=False, barebones=True)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / 'best.ckpt', weights_only=True)
    inputs = Checkpoint.load(tmp_path / 'best.ckpt').inputs
    assert inputs.radar == {
        'units': ['power', 'amplitude'], 'low': [-25, None], 'high': [0, None],
        'speckle': [3, 4.4],
    }  # fmt: skip
    image = torch.rand(1, 2, 32, 32) / 10
    predict = Checkpoint.load(tmp_path / 'best.ckpt').predictor(torch.device('cpu'))
    with torch.no_grad():
        torch.testing.assert_close(
            predict(image), module(image).softmax(dim=1), atol=1e-5, rtol=1e-4
        )


def test_training_speckle_is_drawn_anew_and_stays_out_of_validation() -> None:
    noisy, still = task(radar={'looks': 4, 'gain': 1.0}).train(), batch()
    first, second = noisy.network_input(still), noisy.network_input(still)
    assert not torch.equal(first, second)
    plain = task().network_input(still)
    assert torch.equal(noisy.eval().network_input(still), plain)


def test_maps_of_the_teacher_are_kept_where_a_folder_is_named(
    teacher: str, tmp_path: Path
) -> None:
    cached = task(teacher=teacher, distillation={'cache': str(tmp_path)}).eval()
    first, again = cached.losses(batch()), cached.losses(batch())
    assert len(list(tmp_path.rglob('*.safetensors'))) == 2
    assert first['loss'] == again['loss']
    plain = task(teacher=teacher).eval().losses(batch())
    assert first['loss'].item() == pytest.approx(plain['loss'].item(), rel=1e-2)


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'sar': None}, r'which of the bands VV, .* are radar.*--model.sar'),
        ({'sar': {'HH': 'dB'}}, 'no radar band HH; their bands are VV, VH'),
        ({'sar': {'VV': 'complex'}}, 'got complex.*open_radar'),
        ({'sar': dict.fromkeys(BANDS, 'dB'), 'stage': 'teacher'}, 'all bands .* radar'),
        (
            {'radar': {'limit': {}}},
            'radar takes limits, filter, looks, gain; got limit',
        ),
        ({'radar': {'limits': {'B2': [0, 1]}}}, r'radar bands \(VV, VH\), got B2'),
        ({'radar': {'limits': {'VV': [0, -25]}}}, 'lower limits must be below'),
    ],
)
def test_mistaken_declarations_are_named(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        task(**arguments)


def test_power_that_is_declared_as_decibel_is_refused_in_training() -> None:
    given = batch()
    given['image'][:, :2] = 10 ** (given['image'][:, :2] / 10)
    with pytest.raises(ValueError, match=r'declared as dB.*Declare power'):
        task().losses(given)


def test_units_may_come_with_the_data() -> None:
    said = Inputs.from_dict(
        INPUTS.to_dict() | {'radar': {'units': ['dB', 'dB', '', '', '']}}
    )
    module = CrossModalDistillation(said, network=TINY)
    assert module.inputs.bands == ('VV', 'VH')
    teacher = CrossModalDistillation(said, stage='teacher', network=TINY)
    assert teacher.inputs.radar is None


def test_a_teacher_of_other_bands_or_another_kind_is_refused(
    teacher: str, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match='--stage teacher'):
        load_teacher(tmp_path / 'none.ckpt')
    (tmp_path / 'text.ckpt').write_text('no checkpoint')
    with pytest.raises(CheckpointError, match='no checkpoint of'):
        load_teacher(tmp_path / 'text.ckpt')
    wider = {'network': TINY | {'channels': 16}}
    with pytest.raises(CheckpointError, match=r'other channels .* in z'):
        task(teacher=teacher, **wider)
    task(teacher=teacher, distillation={'distance': 'attention'}, **wider)
    with pytest.raises(CheckpointError, match='give both the same detail'):
        task(
            teacher=teacher,
            distillation={'logits': 1.0},
            network=TINY | {'detail': 4},
        )
    renamed = Inputs.from_dict(
        INPUTS.to_dict() | {'bands': ['VV', 'VH', 'B2', 'B3', 'B8']}
    )
    with pytest.raises(CheckpointError, match='give data with B4'):
        CrossModalDistillation(renamed, SAR, network=TINY, teacher=teacher)


@pytest.mark.slow
def test_what_is_clean_in_optical_helps_where_radar_is_noisy(tmp_path: Path) -> None:
    """In the mean over three seeds; on a synthetic scene, which proves little."""
    gains = []
    for seed in range(3):
        path = tmp_path / f'{seed}.ckpt'
        teacher = _trained(seed, stage='teacher')
        teacher.trainer.save_checkpoint(path, weights_only=True)
        alone, taught = _trained(seed), _trained(seed, teacher=str(path))
        gains.append(_accuracy(taught) - _accuracy(alone))
    assert sum(gains) > 0


def _trained(seed: int, **arguments: Any) -> CrossModalDistillation:
    torch.manual_seed(seed)
    module = CrossModalDistillation(INPUTS, SAR, network=TINY, lr=3e-3, **arguments)
    loader: DataLoader[Any] = DataLoader(
        [_disc(i) for i in range(60)],  # type: ignore[arg-type]  # a list will do
        collate_fn=_first_item,
    )
    quiet(60).fit(module, loader)
    return module


@torch.no_grad()
def _accuracy(module: CrossModalDistillation) -> float:
    module.eval()
    hits = []
    for i in range(20):
        given = _disc(1000 + i, labelled=True)
        answer = module.model(module.network_input(given)).argmax(dim=1)
        hits.append((answer == given['mask']).float().mean())
    return float(torch.stack(hits).mean())


def _disc(seed: int, labelled: bool | None = None) -> dict[str, Tensor]:
    """A bright disc that radar sees through strong noise; one label in eight."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing='ij')
    middle = 8 + 16 * torch.rand(2, 2, generator=generator)
    inside = torch.stack([(y - a) ** 2 + (x - b) ** 2 < 60 for a, b in middle]).long()
    noise = torch.randn(2, 5, 32, 32, generator=generator)
    noise[:, 2:] *= 0.1
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (INPUTS.mean, INPUTS.std))
    mask = inside.clone()
    if not labelled:
        mask[torch.rand(2, 32, 32, generator=generator) > 1 / 8] = 255
    return {
        'image': mean + std * (noise + inside[:, None]),
        'mask': mask,
        'valid': torch.ones(2, 32, 32, dtype=torch.bool),
    }


def _first_item(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return items[0]


def _counted(module: CrossModalDistillation, given: dict[str, Tensor]) -> Tensor:
    """Confusion matrix of a batch."""
    matrix: Any = module.test_confusion
    matrix.reset()
    module.test_step(given, 0)
    counted: Tensor = matrix.compute().clone()
    return counted


def _teacher(module: CrossModalDistillation) -> Any:
    return module._teacher[0]


def _first(module: CrossModalDistillation) -> Any:
    return _first_of(module.model)


def _first_of_teacher(module: CrossModalDistillation) -> Any:
    return _first_of(_teacher(module).network)


def _first_of(network: Any) -> Any:
    return network.backbone.network.conv1[0]
