"""Citations: every method names its papers, and a recipe's list follows its parts."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

import unistep
from unistep import registry
from unistep.citations import PAPERS, bibtex
from unistep.cli.main import main
from unistep.recipes import facts, recipes, reproductions
from unistep.recipes.cite import citation, papers
from unistep.training.optim import AdamConfig


@pytest.mark.parametrize("kind", registry.entries("objective").values())
def test_a_method_names_its_papers(kind: type) -> None:
    assert kind.papers
    assert set(kind.papers) <= set(PAPERS)


@pytest.mark.parametrize("name", list(recipes()))
def test_the_papers_of_a_recipes_docstring_are_cited(name: str) -> None:
    stated = re.findall(r"arXiv (\d{4}\.\d{5})", facts(name)[1]["Paper"])
    assert stated
    for number in stated:
        assert number in citation(name)


def test_the_list_follows_the_parts() -> None:
    config = reproductions()["fashion/ect"]
    assert papers(config)[0] == "geng2024easy"
    assert {"karras2022edm", "jordan2024muon", "xiao2017fashion"} <= set(papers(config))
    plain = replace(config, objective=replace(config.objective, guidance=1.0))
    assert "ho2022guidance" not in papers(plain)
    changed = replace(
        config,
        optimizer=AdamConfig(),
        objective=replace(config.objective, guidance=1.5, target="euler", pairing="optimal_transport"),
        data=replace(config.data, source="folder:x"),
    )
    assert {"ho2022guidance", "pooladian2023multisample"} <= set(papers(changed))
    assert "meng2022guided" not in papers(changed)
    told = replace(changed, objective=replace(changed.objective, guidance_range=(1.0, 4.0)))
    assert {"ho2022guidance", "meng2022guided"} <= set(papers(told))
    assert not {"jordan2024muon", "xiao2017fashion"} & set(papers(changed))


def test_a_method_has_the_papers_of_no_data() -> None:
    assert set(papers(recipes()["ect"]())) == set(papers(reproductions()["fashion/ect"])) - {"xiao2017fashion"}


def test_bibtex_is_well_formed_and_repeats_nothing() -> None:
    text = bibtex(["lu2024continuous", "jordan2024muon", "lu2024continuous"])
    assert text.count("@misc{") == 2
    assert text.count("{") == text.count("}")
    assert "eprint = {2410.11081}" in text
    assert "url = {https://" in text
    assert " and Yang Song" in text


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--cite", "fashion/ect"]) == 0
    assert capsys.readouterr().out == unistep.citation("fashion/ect")
    assert main(["recipes", "--cite", "fashion/etc"]) == 2
    assert "fashion/ect" in capsys.readouterr().err
