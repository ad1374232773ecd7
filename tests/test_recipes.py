"""Recipes as JSON: what a study asks for is the same when it is read back."""

from __future__ import annotations

import json

import pytest

from flows.scales import SCALES, study_at
from models.clap import LaionClapRecipe
from tasks.recipes import dump_recipe, load_recipe

LAION = LaionClapRecipe(checkpoint_sha256="a" * 64, tokenizer_sha256="b" * 64)


@pytest.mark.parametrize("scale", SCALES)
def test_every_arm_of_a_study_and_its_judge_are_themselves_again(scale):
    study = study_at(scale, laion=LAION)
    assert load_recipe(dump_recipe(study.arms)) == study.arms
    assert load_recipe(dump_recipe(study.clap)) == study.clap


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"type": "Subprocess"}, "names the type 'Subprocess', which this version of Stemwright does not have"),
        ({"type": "UNetRecipe", "depth": 3}, "cannot be read"),
        ({"enum": "Mlp", "name": "RELU"}, "cannot be read"),
    ],
)
def test_what_is_no_recipe_is_refused_by_name(told, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_recipe(json.dumps(told))
