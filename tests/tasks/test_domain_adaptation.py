"""The task of ST-DASegNet: what learns when, from what, and what a checkpoint holds."""

import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pairs_in_memory
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from pairs_in_memory import INPUTS, QUIET, Pairs, adaptation, loader
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader

from eoseg.checkpoint import Checkpoint
from eoseg.errors import CheckpointError
from eoseg.inputs import Inputs
from eoseg.tasks import DomainAdaptation, domain_adaptation
from eoseg.tasks.adaptation_settings import Settings

pytestmark = [
    pytest.mark.filterwarnings('ignore:The .* does not have many workers'),
    pytest.mark.filterwarnings('ignore:.*LeafSpec'),
    pytest.mark.filterwarnings('ignore:.*have no `val_dataloader`'),
    pytest.mark.filterwarnings('ignore:.*logging interval'),
]

#: Terms of the log, without the prefix.
TOLD = {
    'loss', 'confident', 'fair', 'entropy', 'agreement',
    *(f'pseudo_{name}' for name in INPUTS.classes),
    *(f'{term}_{domain}' for domain in ('source', 'target') for term in (
        'segmentation', 'self_training', 'adversarial', 'discriminator', 'accuracy',
    )),
}  # fmt: skip


def batch(seed: int = 0) -> dict[str, Any]:
    one: dict[str, Any] = next(iter(loader(2, seed=seed)))
    return one


def fitted(task: DomainAdaptation, epochs: int = 1, **settings: Any) -> Trainer:
    trainer = Trainer(max_epochs=epochs, **QUIET | settings)
    trainer.fit(task, loader())
    return trainer


def saved(trainer: Trainer, path: Path, weights_only: bool) -> Path:
    trainer.save_checkpoint(path, weights_only=weights_only)
    return path


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )


# One iteration.


def test_the_first_line_of_the_log_has_the_values_of_chance() -> None:
    trainer = Trainer(max_epochs=1, limit_train_batches=1, **QUIET)
    trainer.fit(adaptation(), loader())
    told = {
        name.removeprefix('train/'): value.item()
        for name, value in trainer.callback_metrics.items()
    }
    assert told.keys() == TOLD
    chance = pytest.approx
    for domain in ('source', 'target'):
        assert told[f'segmentation_{domain}'] == chance(math.log(3), abs=0.1)
        assert told[f'adversarial_{domain}'] == chance(math.log(2), abs=0.2)
        assert told[f'discriminator_{domain}'] == chance(2 * math.log(2), abs=0.3)
        assert told[f'self_training_{domain}'] == 0
    assert told['confident'] == told['fair'] == 0
    assert told['entropy'] > 0.95
    assert told['loss'] == chance(2 * math.log(3) + 0.005 * 2 * math.log(2), abs=0.2)


def test_teachers_then_students_then_both_discriminators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = adaptation()
    calls: list[str] = []
    parts = {
        'students': task.model,
        'source': task.discriminators['source'],
        'target': task.discriminators['target'],
    }
    before: dict[str, dict[str, Tensor]] = {}

    def remember() -> None:
        for name, part in parts.items():
            before[name] = {k: v.detach().clone() for k, v in part.named_parameters()}

    def stepped(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        changed = [
            name
            for name, part in parts.items()
            if not same(before[name], dict(part.named_parameters()))
        ]
        calls.extend(changed)
        remember()

    update = task.update_teachers

    def updated() -> None:
        calls.append('teachers')
        update()

    monkeypatch.setattr(task, 'update_teachers', updated)
    remember()
    hook = register_optimizer_step_post_hook(stepped)
    try:
        fitted(task)
    finally:
        hook.remove()
    assert calls == ['teachers', 'students', 'source', 'target'] * 2
    assert int(task.iteration) == 2
    assert not any(p.requires_grad for p in task.teachers.parameters())
    assert all(p.requires_grad for p in task.model.parameters())


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    task = adaptation(settings={'threshold': 0.0, 'self_training': 0.5})
    terms = {name: value.item() for name, value in task.losses(batch()).items()}
    assert terms['self_training_source'] > 0 and terms['confident'] == 1
    expected = sum(
        weight * terms[f'{name}_{domain}']
        for name, weight in (
            ('segmentation', 1), ('self_training', 0.5), ('adversarial', 0.005),
        )
        for domain in ('source', 'target')
    )  # fmt: skip
    assert terms['loss'] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('so_far, kept', [(1, 1 / 2), (2, 2 / 3), (2000, 0.999)])
def test_teachers_follow_more_slowly_with_time(so_far: int, kept: float) -> None:
    task = adaptation(settings={'teacher_init': 'random'})
    task.iteration.fill_(so_far)
    theirs = next(task.teachers['source_head'].parameters())
    assert task.model.source_head is not None
    ours = next(task.model.source_head.parameters())
    expected = kept * theirs + (1 - kept) * ours
    task.update_teachers()
    torch.testing.assert_close(theirs, expected)


def test_teachers_stay_before_the_first_iteration() -> None:
    task = adaptation(settings={'teacher_init': 'random'})
    before = {k: v.clone() for k, v in task.teachers.state_dict().items()}
    task.update_teachers()
    assert same(before, task.teachers.state_dict())


def test_a_teacher_begins_as_its_student_unless_told() -> None:
    for init, expected in (('copy', True), ('random', False)):
        task = adaptation(settings={'teacher_init': init})
        student = task.model.target_head.state_dict()
        assert same(student, task.teachers['target_head'].state_dict()) is expected


def test_teachers_drop_channels_only_if_told() -> None:
    for drops in (False, True):
        task = adaptation(
            network={'dropout': 0.5}, settings={'teacher_dropout': drops}
        ).train()
        task.losses(batch())
        dropping = [
            m for m in task.teachers.modules() if isinstance(m, torch.nn.Dropout2d)
        ]
        assert dropping and all(m.training is drops for m in dropping)
        norms = [
            m for m in task.teachers.modules() if isinstance(m, torch.nn.BatchNorm2d)
        ]
        assert norms and all(m.training for m in norms)


def test_a_teacher_may_be_the_whole_path_of_the_target() -> None:
    task = adaptation(settings={'teacher': 'target'})
    assert set(task.teachers) == {'target_backbone', 'target_head'}
    fitted(task)
    assert int(task.iteration) == 2


def test_labels_of_the_target_change_nothing() -> None:
    losses = []
    for poison in (False, True):
        task = adaptation(settings={'threshold': 0.0})
        data = batch()
        if poison:
            data['target']['mask'] = torch.randint(0, 3, (2, 64, 64))
        losses.append(task.losses(data))
    assert same(*losses)


def test_pixels_that_are_not_valid_change_nothing() -> None:
    losses = []
    for value in (0.0, 1e6):
        task = adaptation(settings={'threshold': 0.0})
        data = batch()
        for domain in data.values():
            domain['valid'][:, :20] = False
            domain['image'][:, :, :20] = value
        data['source']['mask'][:, :20] = 255
        losses.append(task.losses(data))
    assert same(*losses)


def test_images_of_the_target_may_be_squashed() -> None:
    task = adaptation(
        inputs=replace(INPUTS, patch_size=128),
        target_side=64,
        settings={'threshold': 0.0},
    )
    assert task.downs == 0
    data = batch()
    large = {
        'image': data['target']['image'].repeat(1, 1, 2, 2),
        'valid': data['target']['valid'].repeat(1, 2, 2),
    }
    answer = task._students({'source': data['source'], 'target': large})
    assert answer.labels.mask.shape == (2, 64, 64)


@pytest.mark.parametrize('statistics', ['target', 'both'])
def test_statistics_of_norms_are_those_of_the_target_unless_told(
    statistics: str,
) -> None:
    task = adaptation(
        network={'backbone': 'resnet10t'}, settings={'statistics': statistics}
    ).train()
    data = batch()
    dark = {'source': data['source'], 'target': data['target']}
    dark['target'] = {**data['target'], 'image': data['target']['image'] * 0}
    task.losses(dark)
    norm = next(m for m in task.model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert norm.running_mean is not None
    assert bool(norm.running_mean.any()) is (statistics == 'both')
    assert norm.momentum == 0.1


# What it is told.


def test_a_batch_of_one_domain_is_refused() -> None:
    with pytest.raises(ValueError, match='learns from two domains'):
        adaptation().losses(batch()['source'])


@pytest.mark.parametrize(
    'arguments, message',
    [
        (
            {'downs': 2},
            r'patches of 64 pixels give maps of 2 x 2 .* at least 384 pixels',
        ),
        ({'target_side': 32}, 'at least 64 pixels'),
        ({'preset': 'best'}, "preset must be 'paper' or 'default', got 'best'"),
        ({'settings': {'taus': 1}}, 'settings takes normalization, .*; got taus'),
        ({'settings': {'teacher': 'both'}}, "teacher must be 'decoder' or 'target'"),
        ({'settings': {'threshold': 1.5}}, 'threshold must be 0 to 1, got 1.5'),
        ({'settings': {'adversarial': -1}}, 'at least 0, got 0.25 and -1'),
        ({'class_weights': [1.0, 2.0]}, '3 numbers, .* field, house, tree; got 2'),
        ({'class_weights': [[1.0] * 3] * 3}, 'two lists'),
        ({'pseudo_class_weights': [1.0] * 4}, 'pseudo_class_weights must be 3'),
        ({'network': {'paths': 'source'}}, "paths must be 'both' or 'target'"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        adaptation(**arguments)


def test_the_preset_of_the_paper_is_what_its_code_does() -> None:
    task = adaptation(preset='paper', settings={'decay': 0.99})
    assert task.settings == Settings(
        normalization='all', teacher_init='random', teacher_dropout=True,
        statistics='both', decay=0.99,
    )  # fmt: skip


def test_each_decoder_may_have_weights_of_its_own() -> None:
    one, two = [1.0, 1.0, 1.0], [1.0, 1.0, 2.0]
    plain = adaptation(preset='paper').losses(batch())
    both = adaptation(preset='paper', class_weights=two).losses(batch())
    each = adaptation(preset='paper', class_weights=[one, two]).losses(batch())
    name = 'segmentation_{}'.format
    assert each[name('source')] == plain[name('source')] != both[name('source')]
    assert each[name('target')] == both[name('target')] != plain[name('target')]


def datamodule(val_domain: str, source: Inputs) -> Any:
    return SimpleNamespace(source_inputs=source, val_domain=val_domain)


def with_data(data: Any, stage: str = 'fit') -> DomainAdaptation:
    task = adaptation()
    trainer: Any = SimpleNamespace(datamodule=data)
    task._trainer = trainer
    task.setup(stage)
    return task


def test_the_source_is_standardized_by_its_own_statistics(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = replace(INPUTS, mean=(5.0,) * 3)
    with caplog.at_level('INFO'):
        task = with_data(datamodule('target', source))
    assert 'they are used for scores alone' in caplog.text
    data = batch()['source']
    difference = task._standardized(data, 'target') - task._standardized(data, 'source')
    torch.testing.assert_close(difference, torch.full_like(difference, 5.0))
    torch.testing.assert_close(
        task.network_input(data), task._standardized(data, 'target')
    )


def test_where_the_source_is_scored_it_is_standardized_as_such() -> None:
    source = replace(INPUTS, mean=(5.0,) * 3)
    task = with_data(datamodule('source', source), 'validate')
    data = batch()['source']
    torch.testing.assert_close(
        task.network_input(data), task._standardized(data, 'source')
    )


def test_patches_of_the_source_must_do_as_well() -> None:
    with pytest.raises(ValueError, match='source: patches of 32 pixels'):
        with_data(datamodule('target', replace(INPUTS, patch_size=32)))


class Rates(Callback):
    """Learning rates of all optimisers after each iteration."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self.seen.append([one.param_groups[0]['lr'] for one in trainer.optimizers])


@pytest.mark.parametrize(
    'length',
    [{'epochs': 2}, {'epochs': -1, 'max_steps': 12}, {'epochs': 9, 'max_steps': 12}],
)
def test_rates_rise_and_fall_to_nothing_over_the_iterations(
    length: dict[str, int],
) -> None:
    rates = Rates()
    task = adaptation(lr=0.001, discriminator_lr=0.002, warmup=0.5)
    fitted(task, **length, callbacks=[rates])
    assert rates.seen == [
        [pytest.approx(share * peak) for peak in (0.001, 0.002, 0.002)]
        for share in (0.75, 0.5, 0.25, 0)
    ]


# What is kept.


def test_going_on_is_as_if_nothing_had_happened(tmp_path: Path) -> None:
    settings = {'threshold': 0.3}
    whole = adaptation(lr=1e-3, settings=settings)
    fitted(whole, epochs=3, limit_train_batches=2)
    first = adaptation(lr=1e-3, settings=settings)

    class Stop(Trainer):
        @property
        def estimated_stepping_batches(self) -> int:
            return 6  # of the whole training

    trainer = Stop(max_epochs=2, **QUIET)
    trainer.fit(first, loader())
    path = saved(trainer, tmp_path / 'last.ckpt', weights_only=False)
    second = adaptation(seed=1, lr=1e-3, settings=settings)
    Trainer(max_epochs=3, **QUIET).fit(second, loader(), ckpt_path=path)
    assert int(second.iteration) == int(whole.iteration) == 6
    assert same(whole.state_dict(), second.state_dict())


def test_last_holds_what_training_needs_and_best_what_maps(tmp_path: Path) -> None:
    task = adaptation()
    trainer = fitted(task)
    last = saved(trainer, tmp_path / 'last.ckpt', weights_only=False)
    best = saved(trainer, tmp_path / 'best.ckpt', weights_only=True)
    kinds = [
        {key.split('.')[0] for key in torch.load(path, weights_only=True)['state_dict']}
        for path in (last, best)
    ]
    training = {'discriminators', 'teachers', 'iteration', 'shares'}
    assert kinds == [{'model', *training}, {'model'}]
    image = torch.randn(1, 3, 64, 64)
    expected = task.eval()(image).softmax(1)
    for path in (last, best):
        found = Checkpoint.load(path).predictor(torch.device('cpu'))(image)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_best_may_hold_the_path_of_the_target_alone(tmp_path: Path) -> None:
    task = adaptation(network={'paths': 'target'})
    trainer = fitted(task)
    best = saved(trainer, tmp_path / 'best.ckpt', weights_only=True)
    checkpoint = Checkpoint.load(best)
    names = [name for name, _ in checkpoint.network.named_parameters()]
    assert not any(name.startswith('source_') for name in names)
    image = torch.randn(1, 3, 64, 64)
    expected = task.eval()(image).softmax(1)
    found = checkpoint.predictor(torch.device('cpu'))(image)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_scores_of_a_checkpoint_of_weights_are_those_of_its_training(
    tmp_path: Path,
) -> None:
    task = adaptation(lr=1e-2)
    trainer = fitted(task, epochs=2)
    best = saved(trainer, tmp_path / 'best.ckpt', weights_only=True)
    scored = DataLoader(Pairs(2, seed=5, labelled=True), 2)
    other = adaptation(seed=1)
    quiet = {**QUIET, 'enable_progress_bar': False, 'default_root_dir': tmp_path}
    expected = Trainer(**quiet).test(task, scored, verbose=False)
    found = Trainer(**quiet).test(other, scored, ckpt_path=best, verbose=False)
    assert found == expected


def test_a_checkpoint_of_other_classes_is_refused(tmp_path: Path) -> None:
    path = saved(fitted(adaptation()), tmp_path / 'last.ckpt', weights_only=False)
    other = adaptation(inputs=replace(INPUTS, classes=('a', 'b', 'c')))
    with pytest.raises(CheckpointError, match='field, house, tree'):
        Trainer(max_epochs=2, **QUIET).fit(other, loader(), ckpt_path=path)


@pytest.mark.parametrize(
    ('source', 'target', 'lost'),
    [
        ((0.8, 0.1, 0.1), (0.991, 0.009, 0.0), ['house', 'tree']),
        ((0.8, 0.195, 0.005), (0.98, 0.02, 0.0), []),
    ],
)
def test_a_class_that_is_lost_in_the_target_is_named(
    source: tuple[float, ...],
    target: tuple[float, ...],
    lost: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = adaptation()
    for name, shares in (('source', source), ('target', target)):
        task._shares_so_far(name).copy_(torch.tensor(shares))
    task.on_train_end()
    assert [
        name for name in INPUTS.classes if f'class {name} is' in caplog.text
    ] == lost
    assert ('settings: {self_training: 0}' in caplog.text) == bool(lost)


def test_shares_of_pseudo_labels_are_told_by_class() -> None:
    answer = adaptation()._students(batch())
    for i, name in enumerate(INPUTS.classes):
        share = (answer.labels.mask == i).float().mean().item()
        assert answer.terms[f'pseudo_{name}'].item() == pytest.approx(share)


def test_without_self_training_no_class_can_be_lost_by_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = adaptation(settings={'self_training': 0.0})
    task._shares_so_far('target').copy_(torch.tensor([1.0, 0.0, 0.0]))
    task.on_train_end()
    assert caplog.text == ''


def test_both_paths_are_not_those_of_the_target_alone(tmp_path: Path) -> None:
    task = adaptation(network={'paths': 'target'})
    best = saved(fitted(task), tmp_path / 'best.ckpt', weights_only=True)
    with pytest.raises(CheckpointError, match='paths target'):
        Trainer(**QUIET).test(adaptation(), loader(), ckpt_path=best)


def test_other_teachers_than_those_of_the_checkpoint_are_refused(
    tmp_path: Path,
) -> None:
    last = saved(fitted(adaptation()), tmp_path / 'last.ckpt', weights_only=False)
    other = adaptation(settings={'teacher': 'target'})
    with pytest.raises(
        RuntimeError, match=r'Unexpected key(.|\n)*teachers\.source_head'
    ):
        Trainer(max_epochs=2, **QUIET).fit(other, loader(), ckpt_path=last)


def test_pseudo_labels_are_shown_where_teachers_are_fairly_sure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Mapping[str, Tensor]] = []

    def look(images: Mapping[str, Tensor], prediction: Tensor, legend: Any) -> Any:
        shown.append(images)
        return torch.zeros(4, 4, 3, dtype=torch.uint8).numpy()

    monkeypatch.setattr(domain_adaptation, 'comparison', look)
    settings = {'threshold': 0.0, 'rare_threshold': 1.0}
    fitted(adaptation(settings=settings), logger=TensorBoardLogger(tmp_path))
    # Once per epoch; nobody is fairly sure after one step.
    assert len(shown) == 1 and bool((shown[0]['mask'] == 255).all())
    settings = {'threshold': 0.0, 'rare_threshold': 0.0}
    fitted(adaptation(settings=settings), logger=TensorBoardLogger(tmp_path))
    assert bool((shown[1]['mask'] < 3).all())


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    script = pairs_in_memory.__file__
    for devices in ('1', '2'):
        subprocess.run(
            [sys.executable, script, devices, str(tmp_path / devices)], check=True,
            timeout=280,
        )  # fmt: skip
    alone, first, second = (
        torch.load(tmp_path / name, weights_only=True) for name in ('1.0', '2.0', '2.1')
    )
    start = adaptation().state_dict()
    assert same(first, second)
    for name, value in alone.items():
        if name.endswith('layers.2.bias'):
            continue  # the norm after it takes it out: its gradient is rounding
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=2e-5, msg=name)
    moved = [n for n in alone if n in start and not torch.equal(alone[n], start[n])]
    assert {name.split('.')[0] for name in moved} >= {
        'model', 'discriminators', 'teachers',
    }  # fmt: skip
