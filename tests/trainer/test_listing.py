"""The API's copy of the recipes' declared keys is what the trainer itself says."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from farm.flow.recipes import LISTING, declared
from trainer.__main__ import app
from trainer.overrides import declared as keys_of
from trainer.recipes import RECIPES


def test_the_listing_is_the_trainers_own() -> None:
    told = CliRunner().invoke(app, ["recipes", "--json"])
    assert told.exit_code == 0
    assert json.loads(LISTING.read_text()) == json.loads(told.stdout), "write it anew: make recipes"


def test_the_api_reads_it_as_the_trainer_means_it() -> None:
    assert declared().keys() == RECIPES.keys()
    for name, make in RECIPES.items():
        assert list(declared()[name].keys) == keys_of(make())
        assert declared()[name].needs_data == (make().corpus is None)
