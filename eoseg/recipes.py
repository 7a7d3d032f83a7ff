"""Find a recipe by name."""

import shutil
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from .errors import OutputExistsError, RecipeNotFoundError

#: The one that `eoseg fit DIR` follows.
DEFAULT = 'scenes-ktda'


def list_recipes() -> list[str]:
    """Names of the recipes, as one types them."""
    root = files('eoseg_recipes')
    return sorted(
        folder.name.replace('_', '-')
        for folder in root.iterdir()
        if (folder / 'fit.yaml').is_file()
    )


def find_recipe(name: str) -> Traversable:
    """Folder of a recipe.

    Args:
        name: With hyphens or underscores.

    Raises:
        RecipeNotFoundError: If there is none of that name.
    """
    recipe = files('eoseg_recipes') / name.replace('-', '_')
    if not (recipe / 'fit.yaml').is_file():
        raise RecipeNotFoundError(
            f'No recipe named {name!r}. Recipes are: {", ".join(list_recipes())}. '
            'For a config of your own, use --config FILE.'
        )
    return recipe


def summary(name: str) -> str:
    """First line of a recipe, what it is for."""
    text = (find_recipe(name) / 'fit.yaml').read_text(encoding='utf-8')
    return text.splitlines()[0].removeprefix('#').strip()


def copy_recipe(name: str, folder: Path) -> Path:
    """Copy a recipe, to change it.

    Args:
        name: Name of the recipe.
        folder: Where a folder of that name is made.

    Raises:
        OutputExistsError: If the folder is there already.
    """
    target = folder / name.replace('-', '_')
    if target.exists():
        raise OutputExistsError(f'{target} exists; remove it or copy to another folder')
    with as_file(find_recipe(name)) as source:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
    return target
