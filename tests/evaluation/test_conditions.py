"""Conditions taken away one by one: the shot without each, and what the report says of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from maquette.backend.catalogue.models import model_spec
from maquette.backend.evaluation.conditions import CONDITIONS, KNOWN
from maquette.backend.evaluation.evaluate import EvaluationRun, carried_films, true_films
from maquette.backend.evaluation.measures import MEASURES
from maquette.backend.evaluation.report import EvaluationReport
from maquette.backend.models.engine import Engine
from maquette.backend.models.isa.family import ISAFamily
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import Shot
from maquette.backend.shot.validate import validate
from maquette.backend.worlds.sample import Sample, make_sample, to_shot


@pytest.fixture(scope="module")
def sample() -> Sample:
    return make_sample(12, 3, 32, 64, 1, truth=True)


@pytest.fixture(scope="module")
def shot(sample: Sample) -> Shot:
    return to_shot(sample)


def test_without_each_condition_the_carried_film_is_another(shot: Shot) -> None:
    whole = carry_shot(shot, 32, 32).frames
    for name, condition in CONDITIONS.items():
        lacking = condition.drop(shot)
        validate(lacking)
        film = carry_shot(lacking, 32, 32, blind=name == KNOWN).frames
        # Nothing of the set hides anybody in this shot.
        assert (film != whole).any() == (name != "visibility"), name


def test_what_is_taken_away_is_gone_and_nothing_else(shot: Shot) -> None:
    still = CONDITIONS["points"].drop(shot)
    assert all((one.points == one.points[0]).all() and (one.joints == one.joints[0]).all() for one in still.characters)  # type: ignore[index]
    assert all((mesh.vertices == mesh.vertices[0]).all() for mesh in still.meshes)
    assert still.clip is shot.clip
    seen = CONDITIONS["visibility"].drop(shot)
    assert all(one.visibility.all() for one in seen.characters) and all(mesh.character >= 0 for mesh in seen.meshes)
    held = CONDITIONS["camera"].drop(shot)
    assert (held.clip.viewmats == shot.clip.viewmats[0]).all() and held.characters == shot.characters
    unlit = CONDITIONS["light"].drop(shot)
    assert unlit.clay is None and all(r.clay is None for one in unlit.characters for r in one.references)
    assert unlit.background is shot.background
    assert CONDITIONS["background"].drop(shot).background.kind == "none"
    assert not any(one.references for one in CONDITIONS["reference"].drop(shot).characters)


def test_a_blind_model_takes_all_of_the_bodies_for_seen(shot: Shot) -> None:
    engines = [Engine(model_spec("isa-nano"), "cpu", family=ISAFamily(blind)) for blind in (False, True)]
    plan = engines[0].plan(shot)
    seen, all_seen = (carry_shot(shot, plan.width, plan.height, blind=blind) for blind in (False, True))
    for engine, film in zip(engines, (seen, all_seen), strict=True):
        assert np.array_equal(engine.family.encode(engine.begin(shot), None).carried, film.frames)
    assert (all_seen.known >= seen.known).all() and (all_seen.known > seen.known).any()
    assert (all_seen.known[all_seen.character >= 0] >= 0.5).all()
    assert (seen.frames != all_seen.frames).any()


def test_the_report_says_what_each_is_worth(sample: Sample) -> None:
    samples = [sample, replace(sample, seed=13), replace(sample, seed=14)]

    def run(psnr: float, shots: int = 3) -> EvaluationRun:
        plain = {one.name: np.full(shots, 0.5) for one in MEASURES} | {"psnr": np.full(shots, psnr)}
        return EvaluationRun(1, 1.0, plain, np.ones(shots))

    truth, lacking = true_films(samples), {"camera": run(17.5, 2), "known": run(30.0, 2)}

    def told(of_model: dict[str, EvaluationRun]) -> tuple[str, dict]:
        dropped = {"carried": lacking, "model": of_model}
        report = EvaluationReport(
            "isa-nano", "dressed", samples, "cpu", [run(30.0)], truth, run(30.0), None, dropped=dropped
        )
        text = report.as_markdown().split("## What each condition is worth")[1].split("\n## ")[0]
        return text, report.as_json()["dropped"]

    text, table = told({})
    assert "first 2 shots" in text and "gives the carried film as it is" in text and "The model's film" not in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "the first frame's camera throughout | -12.5 (-12.5 to -12.5)" in rows["camera"]
    assert "+0 (+0 to +0)" in rows["known"] and "-" not in rows["known"].split("|")[3]
    assert table["carried"]["camera"]["measures"]["psnr"]["mean"] == 17.5
    text, table = told(lacking)
    assert "The model's film, without" in text and "as it is" not in text and set(table["model"]) == set(lacking)


def test_films_are_the_same_where_no_measure_tells_them_apart(sample: Sample) -> None:
    samples = [sample]
    carried, again = carried_films(samples), carried_films(samples)
    assert carried.same(again) and not carried.same(carried_films(samples, dropped="camera"))
