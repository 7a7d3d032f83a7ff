"""fit, validate and test: LightningCLI, with a folder or a recipe before its options."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file
from pathlib import Path

from ..errors import OutputExistsError
from ..recipes import DEFAULT, find_recipe

#: Backbone and teacher of the recipes that look for pretrained weights; None where the
#: teacher is trained, too.
NETWORKS: dict[str, tuple[str, str | None]] = {
    DEFAULT: ('tf_efficientnet_lite0', 'vit_small_patch14_dinov2'),
    'clouds-ktda': ('convnext_base', 'vit_base_patch14_dinov2'),
    'clouds-ktda-small': ('tf_efficientnet_lite0', 'vit_small_patch14_dinov2'),
    'dfc2020-hfd': ('resnet50', None),
    'flood-hfd-small': ('tf_efficientnet_lite0', None),
    'grass-ktda': ('convnext_base', 'vit_base_patch14_dinov2'),
    'clouds-stda-small': ('tf_efficientnet_lite0', None),
    'loveda-stda': ('mit_b5', None),
    'potsdam-vaihingen-stda': ('mit_b5', None),
    'spacenet6-hfd': ('resnet50', None),
}

#: Recipes that also train without pretrained weights.
SMALL = (DEFAULT, 'flood-hfd-small', 'clouds-stda-small')

#: Task that is trained in two stages, and where a config says which it is about.
TWO_STAGES = 'eoseg.tasks.CrossModalDistillation'
STAGE = re.compile(r'^\s*stage:', re.MULTILINE)

#: Folder of the first stage in that of a run.
TEACHER_RUN = 'teacher'

#: Options for names and weights of the two.
BACKBONE = '--model.network.backbone', '--model.network.backbone_weights'
TEACHER = '--model.teacher.name', '--model.teacher.weights'

log = logging.getLogger(__name__)

USAGE = """\
usage: eoseg {word} DIR [--out RUN] [OPTIONS]
       eoseg {word} --recipe NAME --data.root DIR [--out RUN] [OPTIONS]
       eoseg {word} --config FILE [--out RUN] [OPTIONS]

DIR holds images/ and labels/ (or masks/) of the same names: rasters, or polygons as
GPKG or GeoJSON. Bands, statistics and classes are read from them. The run folder, by
default runs/DIR, gets config.yaml, metrics.csv, TensorBoard events and
checkpoints/best.ckpt, which `eoseg predict` takes.

  --recipe NAME        follow another recipe than {default} (eoseg recipes list)
  --out RUN            folder of this run
  --ckpt_path last     go on where a run stopped (fit); or the checkpoint to score
  --overwrite          train anew over a finished run
  --stage STAGE        teacher, student or both (default), for recipes that train both:
                       the teacher in RUN/teacher, then the student in RUN

Options of every part, such as --data.patch_size 128, --trainer.max_epochs 20 or
--model.teacher.weights FILE: `eoseg recipes show NAME` lists those a recipe sets,
`eoseg {word} --full-help` those of Lightning.
"""


def run(word: str, arguments: Sequence[str]) -> int:
    """Run ``eoseg fit``, ``validate`` or ``test``."""
    if not arguments or {'-h', '--help'} & set(arguments):
        print(USAGE.format(word=word, default=DEFAULT))
        return 0 if arguments else 2
    if '--full-help' in arguments:
        return _train([word, '--help'], Path())
    asked = _read(arguments)
    recipe = find_recipe(asked.recipe)
    with as_file(recipe / 'fit.yaml') as config:
        stages = _stages(word, asked, config)
        for stage in stages:
            _check(word, stage)
        for stage in stages:
            # Scores of a checkpoint do not replace the log of its training.
            out = stage.out if word == 'fit' else stage.out / word
            words = [word, *_options(word, stage, config)]
            _train(words, out, overwrite=stage.overwrite)
    return 0


def _train(words: Sequence[str], out: Path, *, overwrite: bool = False) -> int:
    # Lightning takes ten seconds to import: after what can be refused without it.
    from .training import train

    train(words, out, overwrite=overwrite)
    return 0


@dataclass
class _Asked:
    """What was asked for, beside options of LightningCLI."""

    folder: Path | None
    recipe: str
    config: bool
    out: Path
    overwrite: bool
    rest: list[str]


def _read(arguments: Sequence[str]) -> _Asked:
    rest = list(arguments)
    folder = None if rest[0].startswith('-') else Path(rest.pop(0))
    recipe = _take(rest, '--recipe') or DEFAULT
    root = folder or _root(rest)
    out = _take(rest, '--out') or Path('runs') / (
        Path(root).resolve().name if root else 'run'
    )
    overwrite = '--overwrite' in rest
    if overwrite:
        rest.remove('--overwrite')
    config = any(word.split('=')[0] in ('-c', '--config') for word in rest)
    return _Asked(folder, recipe, config, Path(out), overwrite, rest)


def _stages(word: str, asked: _Asked, config: Path) -> list[_Asked]:
    """What is to be run, one after the other: one training, or teacher and student.

    Raises:
        LookupError: If there are no such stages here.
        FileNotFoundError: If a student has no teacher yet.
    """
    stage = _take(asked.rest, '--stage')
    if not _has_stages(asked, config):
        if stage is None:
            return [asked]
        raise LookupError(
            '--stage is for recipes that train a teacher and a student, such as '
            'flood-hfd-small; leave it out'
        )
    if stage is None:
        chosen = '--model.stage', '--model.teacher'
        if word != 'fit' or any(_value(asked.rest, option) for option in chosen):
            return [asked]
        if _says_stage(asked):
            return [asked]
        stage = 'both'
    accepted = ('teacher', 'student', *(['both'] if word == 'fit' else []))
    if stage not in accepted:
        raise LookupError(f'--stage must be {" or ".join(accepted)}, got {stage}')
    first = replace(asked, out=asked.out / TEACHER_RUN)
    teacher = first.out / 'checkpoints' / 'best.ckpt'
    first = _with(first, '--model.stage', 'teacher')
    second = _with(asked, '--model.stage', 'student')
    if word != 'fit':
        return [first if stage == 'teacher' else second]
    if _value(asked.rest, '--model.teacher') is None:
        second = _with(second, '--model.teacher', str(teacher))
        if stage == 'student' and not teacher.is_file():
            raise FileNotFoundError(
                f'{teacher} does not exist, so there is no teacher yet; leave out --stage '
                'to train both, or give --model.teacher FILE'
            )
    if stage == 'both' and _value(asked.rest, '--ckpt_path') == 'last':
        if (asked.out / 'checkpoints' / 'last.ckpt').is_file():
            return [second]
        _take(second.rest, '--ckpt_path')
    return {'teacher': [first], 'student': [second], 'both': [first, second]}[stage]


def _has_stages(asked: _Asked, config: Path) -> bool:
    if TWO_STAGES in (_value(asked.rest, option) for option in ('--model', '-m')):
        return True
    files = _configs(asked) if asked.config else [config]
    return any(TWO_STAGES in file.read_text('utf-8') for file in files)


def _says_stage(asked: _Asked) -> bool:
    """Whether the user's config is about one of the stages, as that of a run is."""
    return any(STAGE.search(file.read_text('utf-8')) for file in _configs(asked))


def _configs(asked: _Asked) -> list[Path]:
    named = (_value(asked.rest, option) for option in ('--config', '-c'))
    return [Path(name) for name in named if name and Path(name).is_file()]


def _with(asked: _Asked, option: str, value: str) -> _Asked:
    """The same with one more option."""
    return replace(asked, rest=[*asked.rest, option, value])


def _value(words: list[str], option: str) -> str | None:
    for i, word in enumerate(words):
        if word.startswith(f'{option}='):
            return word.partition('=')[2]
        if word == option:
            if i + 1 == len(words):
                raise LookupError(f'{option} needs a value')
            return words[i + 1]
    return None


def _root(words: list[str]) -> str | None:
    """Folder of the data; of two domains, that of the one that maps are made of."""
    return _value(words, '--data.root') or _value(words, '--data.target.root')


def _take(words: list[str], option: str) -> str | None:
    """Value of an option, which is removed."""
    value = _value(words, option)
    for i, word in enumerate(words):
        if word.startswith(f'{option}='):
            del words[i]
            break
        if word == option:
            del words[i : i + 2]
            break
    return value


def _check(word: str, asked: _Asked) -> None:
    """Refuse what cannot work before anything heavy is imported."""
    if asked.folder is not None and not asked.folder.is_dir():
        raise FileNotFoundError(
            f'{asked.folder} is no folder; give one with images/ and labels/'
        )
    if asked.folder is None and not asked.config and not _root(asked.rest):
        raise LookupError(
            f'nothing to {word} on; give a folder of scenes and labels: eoseg {word} DIR '
            '(for recipes of two domains: --data.source.root DIR --data.target.root DIR)'
        )
    checkpoint = _value(asked.rest, '--ckpt_path')
    last = asked.out / 'checkpoints' / 'last.ckpt'
    if checkpoint == 'last':
        if not last.is_file():
            raise FileNotFoundError(
                f'{last} does not exist, so there is nothing to go on with; '
                'leave out --ckpt_path last, or give the --out of that run'
            )
        _take(asked.rest, '--ckpt_path')
        asked.rest += ['--ckpt_path', str(last)]
    elif word == 'fit' and last.is_file() and not asked.overwrite:
        raise OutputExistsError(
            f'{asked.out} has a run already. Go on with it: --ckpt_path last; '
            'train anew: --overwrite; keep both: --out ANOTHER'
        )
    elif word != 'fit' and checkpoint is None:
        raise LookupError(
            f'which checkpoint? eoseg {word} needs --ckpt_path, such as '
            f'--ckpt_path {asked.out}/checkpoints/best.ckpt'
        )


def _options(word: str, asked: _Asked, config: Path) -> list[str]:
    """Options of LightningCLI: the config first, the user's own last."""
    root = ['--data.root', str(asked.folder)] if asked.folder is not None else []
    if asked.config:
        return [*asked.rest, *root]
    words = ['--config', str(config), *root]
    recipe = asked.recipe.replace('_', '-')
    if word == 'fit' and recipe in NETWORKS:
        words += _local_weights(recipe, asked.rest)
    return [*words, *asked.rest]


def _local_weights(recipe: str, given: list[str]) -> list[str]:
    """Pretrained weights of a recipe, as far as they are on this machine."""
    from ..models import find_weights

    words = []
    backbone, teacher = NETWORKS[recipe]
    for default, (naming, option), without in (
        (backbone, BACKBONE, []),
        (teacher, TEACHER, ['--model.teacher', 'null']),
    ):
        if default is None:
            continue
        part = option.rpartition('.')[0]
        if _value(given, option) is not None or _value(given, part) == 'null':
            continue
        name = _value(given, naming) or default
        how = _how_to_get(name, option)
        if path := find_weights(name):
            words += [option, str(path)]
        elif recipe in SMALL:
            words += without
            log.warning(
                'no weights of %s on this machine: training goes on without, which costs '
                'accuracy. %s',
                name,
                how,
            )
        else:
            # A long training, of another experiment than the one that was asked for.
            raise FileNotFoundError(f'no weights of {name} on this machine. {how}')
    return words


def _how_to_get(name: str, option: str) -> str:
    import timm

    # The repository has a tag after the name.
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    source = getattr(config, 'hf_hub_id', None) or f'timm/{name}'
    if name.startswith('mit_'):
        source = f'smp-hub/{name}.imagenet'
    return (
        f'Get model.safetensors of {source} from Hugging Face and save it as '
        f'{name}.safetensors in ~/.cache/eoseg/weights (or $EOSEG_WEIGHTS), or give '
        f'{option} FILE'
    )
