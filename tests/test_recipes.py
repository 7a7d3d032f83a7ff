"""Recipes are found by name; each is a config that its README explains."""

from pathlib import Path

import pytest
import yaml

from eoseg.errors import OutputExistsError, RecipeNotFoundError
from eoseg.recipes import copy_recipe, find_recipe, list_recipes, summary


def test_a_recipe_is_found_by_either_spelling() -> None:
    assert find_recipe('scenes-ktda') == find_recipe('scenes_ktda')


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(RecipeNotFoundError, match=r"'grass'.*scenes-ktda.*--config"):
        find_recipe('grass')


@pytest.mark.parametrize('name', list_recipes())
def test_a_recipe_is_a_config_with_a_summary_and_a_readme(name: str) -> None:
    config = yaml.safe_load((find_recipe(name) / 'fit.yaml').read_text())
    assert config['model']['class_path'].startswith('eoseg.tasks.')
    assert config['data']['class_path'].startswith('eoseg.datamodules.')
    assert isinstance(config['seed_everything'], int)
    assert len(summary(name)) > 20
    assert (find_recipe(name) / 'README.md').is_file()


def test_a_copy_is_the_users_own(tmp_path: Path) -> None:
    target = copy_recipe('scenes-ktda', tmp_path)
    assert (target / 'fit.yaml').read_text() == (
        find_recipe('scenes-ktda') / 'fit.yaml'
    ).read_text()
    with pytest.raises(OutputExistsError, match='remove it'):
        copy_recipe('scenes-ktda', tmp_path)
