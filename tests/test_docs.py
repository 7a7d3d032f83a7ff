"""What the documentation tells to type can be typed, and what it links to is there."""

import ast
import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from eoseg.main import COMMANDS, main
from eoseg.recipes import list_recipes

ROOT = Path(__file__).parents[1]
SHELVES = [
    ROOT / 'datasets' / 'README.md',
    *(ROOT / 'recipes').rglob('README.md'),
]
PAGES = sorted(
    path
    for path in [ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md'), *SHELVES]
    if '_build' not in path.parts
)

#: Where arguments of `eoseg fit` come from: file, class and what precedes them.
ARGUMENTS = {
    # A data module passes on what its base class takes.
    '--data.': [
        ('eoseg/datamodules/bijie_landslide.py', 'BijieLandslideDataModule'),
        ('eoseg/datamodules/divided.py', 'DividedDataModule'),
        ('eoseg/datamodules/domain_pair.py', 'DomainPairDataModule'),
        ('eoseg/datamodules/grass.py', 'GrassDataModule'),
        ('eoseg/datamodules/radar_optical.py', 'RadarOpticalDataModule'),
        ('eoseg/datamodules/scene_folder.py', 'SceneFolderDataModule'),
        ('eoseg/datamodules/scenes.py', 'SceneDataModule'),
    ],
    '--model.': [
        ('eoseg/tasks/distillation.py', 'Distillation'),
        ('eoseg/tasks/segmentation.py', 'Segmentation'),
        ('eoseg/tasks/sam_adapter.py', 'SAMAdapter'),
        ('eoseg/tasks/domain_adaptation.py', 'DomainAdaptation'),
        ('eoseg/tasks/cross_modal.py', 'CrossModalDistillation'),
    ],
    '--model.network.': [
        ('eoseg/models/ktda.py', 'KTDA'),
        ('eoseg/models/unet.py', 'UNet'),
        ('eoseg/models/sam.py', 'AdaptedSAM'),
        ('eoseg/models/dasegnet.py', 'STDASegNet'),
        ('eoseg/models/hfdnet.py', 'HFDNet'),
    ],
    '--model.teacher.': [('eoseg/models/teacher.py', 'Teacher')],
    '--model.distillation.': [('eoseg/losses/distillation.py', 'DistillationLoss')],
    '--trainer.': [('lightning/pytorch/trainer/trainer.py', 'Trainer')],
    '--early_stopping.': [
        ('lightning/pytorch/callbacks/early_stopping.py', 'EarlyStopping')
    ],
}

# Of two domains, each has those of a data module.
ARGUMENTS |= {
    f'--data.{domain}.': [
        *ARGUMENTS['--data.'],
        ('eoseg/datamodules/loveda.py', 'LoveDADataModule'),
        ('eoseg/datamodules/vaihingen.py', 'VaihingenDataModule'),
    ]
    for domain in ('source', 'target')
}

#: Options of LightningCLI itself.
LIGHTNING = {
    '--config', '--seed_everything', '--print_config', '--ckpt_path', '--data',
}  # fmt: skip

#: Options of other programs that pages name.
OF_OTHERS = {'--help', '--unset-nodata'}

#: Words before the name of a recipe.
_NAMED = {'--recipe', 'show', 'copy'}

#: Variables of the shell before a command.
_ASSIGNMENT = re.compile(r'^(\w+=\S+ +)+')


def commands(text: str) -> Iterator[list[str]]:
    """Words of each `eoseg …` in a page: lines of code blocks, and code in a sentence."""
    blocks, prose = fences(text)
    for line in blocks.replace('\\\n', ' ').splitlines():
        typed = _ASSIGNMENT.sub('', line.strip())
        # What a command answers begins like one, with a colon.
        if re.match(r'eoseg( \w+)?(?!.*: )( |$)', typed):
            yield shlex.split(typed, comments=True)
    for typed in re.findall(r'`(eoseg [^`]+)`', prose):
        yield shlex.split(typed)


def fences(text: str) -> tuple[str, str]:
    """Lines of a page inside of code blocks without a language, and those outside."""
    blocks, prose, inside = [], [], None
    for line in text.splitlines():
        if line.lstrip().startswith('```'):
            inside = line.strip() if inside is None else None
        elif inside is None:
            prose.append(line)
        elif inside == '```':
            blocks.append(line)
    return '\n'.join(blocks), '\n'.join(prose)


def everything_typed() -> list[tuple[str, list[str]]]:
    return [
        (path.relative_to(ROOT).as_posix(), words)
        for path in PAGES
        for words in commands(path.read_text('utf-8'))
    ]


TYPED = everything_typed()


@cache
def help_of(*words: str) -> str:
    text = io.StringIO()
    with redirect_stdout(text):
        assert main([*words, '--help']) == 0
    return text.getvalue()


def mistakes(words: list[str]) -> list[str]:
    """What is wrong with a command, in words; nothing if it can be typed."""
    _, command, *rest = words
    if command not in COMMANDS:
        return [] if command.startswith('-') else [f'no command {command}']
    options = [word.split('=')[0] for word in rest if word.startswith('--')]
    recipes = [value for name, value in pairwise(rest) if name in _NAMED]
    actions = rest[:1] if command == 'recipes' else []
    known = {*list_recipes(), 'NAME'}
    return [
        *(f'no option {name}' for name in options if not is_option(command, name)),
        *(f'no action {name}' for name in actions if not is_action(command, name)),
        *(f'no recipe {name}' for name in recipes if name not in known),
    ]


def is_action(command: str, name: str) -> bool:
    return re.search(rf'^ +{name} ', help_of(command), re.MULTILINE) is not None


def is_option(command: str, name: str) -> bool:
    return (
        name == '--traceback'
        or name in re.findall(r'(?<![\w.-])--[\w-]+(?![\w.])', help_of(command))
        or (COMMANDS[command][0] == 'fit' and is_fit_option(name))
    )


def is_fit_option(name: str) -> bool:
    if name in LIGHTNING:
        return True
    prefix, _, last = name.rpartition('.')
    classes = ARGUMENTS.get(f'{prefix}.', [])
    return any(last in arguments(file, of) for file, of in classes)


@cache
def arguments(file: str, name: str) -> frozenset[str]:
    """Arguments of a class, from its source: importing it would take ten seconds."""
    package = find_spec(file.split('/')[0])
    assert package is not None and package.origin is not None
    source = Path(package.origin).parents[1] / file
    for node in ast.walk(ast.parse(source.read_text('utf-8'))):
        if isinstance(node, ast.ClassDef) and node.name == name:
            init = next(
                part
                for part in node.body
                if isinstance(part, ast.FunctionDef) and part.name == '__init__'
            )
            return frozenset(a.arg for a in (*init.args.args, *init.args.kwonlyargs))
    raise AssertionError(f'{source} has no class {name}')


def test_the_pages_tell_to_type_every_command() -> None:
    assert {words[1] for _, words in TYPED} >= COMMANDS.keys()


@pytest.mark.parametrize('page', sorted({page for page, _ in TYPED}))
def test_what_a_page_tells_to_type_can_be_typed(page: str) -> None:
    wrong = [
        f'{" ".join(words)}: {mistake}'
        for where, words in TYPED
        if where == page
        for mistake in mistakes(words)
    ]
    assert wrong == []


@pytest.mark.parametrize('page', [p.relative_to(ROOT).as_posix() for p in PAGES])
def test_options_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text('utf-8')
    named = set(re.findall(r'`(--[\w.-]*\w)(?=[ =`])', text)) - OF_OTHERS
    unknown = [n for n in named if not any(is_option(c, n) for c in COMMANDS)]
    assert unknown == []


@pytest.mark.parametrize(
    'typed',
    [
        'eoseg pedict scenes run.ckpt',
        'eoseg predict scenes run.ckpt --windows 64',
        'eoseg fit DIR --recipe grass',
        'eoseg recipes show grass',
        'eoseg recipes delete scenes-unet',
        'eoseg fit DIR --data.patchsize 64',
        'eoseg fit DIR --model.network.backbones resnet18',
    ],
)
def test_a_mistyped_line_would_be_found(typed: str) -> None:
    assert mistakes(typed.split()) != []


@pytest.mark.parametrize('page', [p.relative_to(ROOT).as_posix() for p in PAGES])
def test_recipes_that_a_page_names_exist(page: str) -> None:
    named = re.findall(
        r'`((?:scenes|demo|grass|cloud)-[a-z]+)`', (ROOT / page).read_text('utf-8')
    )
    assert set(named) <= set(list_recipes())


@pytest.mark.parametrize('page', [p.relative_to(ROOT).as_posix() for p in PAGES])
def test_links_of_a_page_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text('utf-8')
    links = [
        link.partition('#')[0]
        for link in re.findall(r'(?:\]\(|\{figure\} )([^)\s]+)', text)
        if '://' not in link and not link.startswith('#')
    ]
    missing = [
        link for link in links if not (ROOT / page).parent.joinpath(link).exists()
    ]
    assert missing == []


def test_the_pictures_stay_small() -> None:
    sizes = [path.stat().st_size for path in (ROOT / 'docs' / 'images').glob('*.jpg')]
    assert len(sizes) > 0 and sum(sizes) < 1.5e6
