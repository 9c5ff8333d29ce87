"""What the panel says before Generate is what is made: of every model, at sizes, rates and lengths of all kinds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from maquette.backend.catalogue.models import ModelEntry, find_specs
from maquette.backend.catalogue.sizes import shot_size
from maquette.backend.models.registry import plan_shot
from maquette.backend.shot import KeypointState

from ..builders import make_shot

SPECS = find_specs()
CHOICES = {
    "control": ("depth", "none"),
    "picture": ("square", "frame"),
    "parity": (False, True),
    "frame_rate": (12, 24),
}


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=10, deadline=None, phases=[Phase.generate])
@given(data=st.data())
def test_the_predicted_size_is_made(name: str, data: st.DataObject) -> None:
    entry = ModelEntry.of(SPECS[name], available=True)
    least, most = max(6, entry.limits.get("min_frames", 1)), min(90, entry.limits.get("max_frames", 90))
    frames = data.draw(st.integers(least, most))
    short, aspect = data.draw(st.integers(200, 2000)), data.draw(st.floats(1, 2.2))
    clip_size = data.draw(st.permutations((short, round(short * aspect))))
    chosen = {
        option: data.draw(st.sampled_from([value for value in values if entry.options[option].problem(value) == ""]))
        for option, values in CHOICES.items()
        if option in entry.options
    }
    shot = make_shot(frames, width=clip_size[0], height=clip_size[1], full=True)
    shot = replace(shot, clip=replace(shot.clip, fps=data.draw(st.sampled_from([12, 23.976, 25, 30, 60]))))
    shot = replace(shot, settings=replace(shot.settings, model=name, options=chosen, width=None, height=None))
    seen = np.full_like(shot.characters[0].keypoints.state, KeypointState.VISIBLE)
    person = replace(shot.characters[0], keypoints=replace(shot.characters[0].keypoints, state=seen))
    shot = replace(shot, characters=(person,))
    options = {key: option.default for key, option in entry.options.items()} | chosen
    default = entry.defaults["width"], entry.defaults["height"]
    told, _ = shot_size(entry.limits, default, clip_size, options)
    for quality in ("draft", "standard"):
        plan = plan_shot(replace(shot, settings=replace(shot.settings, quality=quality)))
        assert (plan.width, plan.height, plan.frames) == (*told, frames), quality
