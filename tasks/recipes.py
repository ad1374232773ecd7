"""Recipes as JSON text and back."""

from __future__ import annotations

import json
from typing import Any

from models.recipes import recipe_of
from tasks.fingerprint import canonical


def dump_recipe(recipe: Any) -> str:
    """The canonical JSON of a recipe, indented for people."""
    return json.dumps(canonical(recipe), indent=1, sort_keys=True, ensure_ascii=False)


def load_recipe(text: str) -> Any:
    """The recipe that `dump_recipe` wrote. Raises ValueError for a damaged one, and for a type that is not known."""
    try:
        told = json.loads(text)
    except RecursionError as error:
        raise ValueError("a recipe is nested too deeply to be one; make the result again") from error
    return recipe_of(told)
