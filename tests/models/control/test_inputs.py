"""What the model is given of a shot, and what comes back of its film."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import model_spec
from maquette.backend.control.films import ControlFilms
from maquette.backend.control.fitting import squeezed
from maquette.backend.media import background_frames, encode_png
from maquette.backend.models.control.inputs import (
    grown,
    kept_film,
    laid_over,
    make_leads,
    model_shot,
    references,
)
from maquette.backend.models.control.pipeline import Windowed
from maquette.backend.models.control.plan import make_plan
from maquette.backend.models.control.retime import at_scene_rate
from maquette.backend.models.windows import even_windows
from maquette.backend.shot import Media

from .builders import led_shot

SPEC = model_spec("vace-1.3b")
CPU = torch.device("cpu")


def quiet(done: int, count: int) -> None:
    pass


def picture(video: torch.Tensor, frame: int) -> np.ndarray:
    return (video[0, frame].permute(1, 2, 0).numpy() * 255).round()


@pytest.mark.parametrize("kind", ["depth", "pose", "flow", "none"])
def test_the_control_film_fills_what_is_made(kind):
    shot = led_shot(2)
    leads = make_leads(ControlFilms(shot), kind, "nothing", 0, 0, quiet)
    assert leads.video.shape == leads.mask.shape == (1, 2, 3, 64, 64) and bool((leads.mask == 1).all())
    if kind == "none":
        assert bool((leads.video == 0.5).all())
    else:
        np.testing.assert_allclose(picture(leads.video, 1), ControlFilms(shot).picture(kind, 1), atol=0.01)


def test_clay_is_grey():
    video = make_leads(ControlFilms(led_shot(1)), "clay", "nothing", 0, 0, quiet).video[0, 0]
    shown = ControlFilms(led_shot(1)).picture("clay", 0) @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(video.numpy(), np.broadcast_to(shown, (3, 64, 64)), atol=1e-5)


def test_what_is_kept_is_the_background_and_the_rest_is_led():
    shot = led_shot(2)
    leads = make_leads(ControlFilms(shot), "depth", "background", 3, 0, quiet)
    plate, depth = background_frames(shot, 64, 64), ControlFilms(shot).picture("depth", 0)
    assert plate is not None
    make = leads.mask[0, 0, 0].numpy() > 0
    cover = ControlFilms(shot).picture("silhouettes", 0)[..., 0] > 0
    assert 0 < cover.sum() < make.sum() < make.size and make[cover].all()
    np.testing.assert_allclose(picture(leads.video, 0)[~make], plate[0][~make], atol=0.01)
    np.testing.assert_allclose(picture(leads.video, 0)[make], depth[make], atol=0.01)


def test_what_the_looks_show_is_kept_too():
    films = ControlFilms(led_shot(1))
    kept = kept_film(films, "known", 0)
    assert kept is not None and not kept.make.all()
    np.testing.assert_array_equal(kept.make[0], films.picture("known", 0)[..., 0] < 128)
    np.testing.assert_array_equal(kept.frames[0], films.picture("carried", 0))


def test_margins_and_seams():
    mask = np.zeros((1, 32, 32), bool)
    mask[0, 14:18, 14:18] = True
    wide = grown(mask, 5)
    assert wide[0, 9:23, 9:23].all() and wide.sum() == 14 * 14
    kept = kept_film(ControlFilms(led_shot(1)), "background", 0)
    assert kept is not None
    kept = replace(kept, frames=np.full((1, 32, 32, 3), 10, np.uint8), make=wide)
    film = laid_over(np.full((1, 32, 32, 3), 200, np.uint8), kept, 5)
    assert (film[0][~wide[0]] == 10).all() and (film[0][mask[0]] == 200).all()
    assert ((film[0, 16, 9:13, 0] > 10) & (film[0, 16, 9:13, 0] < 200)).any(), "the seam is soft"


def test_references_stand_whole_on_white_each_character_s_first_before_second_ones():
    shot = led_shot(1, characters=2)
    colours = iter([(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)])

    def painted(character):
        def look() -> Media:
            tall = np.full((40, 10, 4), (*next(colours), 255), np.uint8)
            tall[:5, :, 3] = 0
            return encode_png(tall)

        first, *more = (replace(reference, image=look()) for reference in character.references)
        return replace(character, reference=first, further_references=tuple(more))

    shot = replace(shot, characters=tuple(map(painted, shot.characters)))
    found = [np.asarray(image) for image in references(shot, 3)]
    assert [tuple(image[32, 32]) for image in found] == [(250, 0, 0), (0, 0, 250), (0, 250, 0)]
    assert all(image.shape == (64, 64, 3) and (image[32, :8] == 255).all() for image in found)
    assert (found[0][2, 32] == 255).all(), "what was cut out is white"
    assert references(shot, 0) == []


def test_the_model_s_shot_is_squeezed_resampled_and_held():
    shot = led_shot(10)
    plan = make_plan(SPEC, shot)
    made = model_shot(shot, plan, 16)
    assert (made.clip.fps, made.clip.frames) == (16, 17)
    assert (made.clip.width, made.clip.height) == plan.model_size
    np.testing.assert_allclose(made.clip.viewmats[2], shot.clip.viewmats[3], atol=1e-6)
    np.testing.assert_allclose(made.clip.viewmats[-1], shot.clip.viewmats[-1], atol=1e-6)
    wide = squeezed(shot, 128, 32)
    spot = np.array([0.1, 0.2, 2.0])
    for size, clip in ((64, shot.clip), (128, wide.clip)):
        u = clip.Ks[0] @ spot
        assert u[0] / u[2] / size == pytest.approx((shot.clip.Ks[0] @ spot)[0] / spot[2] / 64)


def test_between_the_model_s_frames_things_move_as_in_the_scene():
    """Against the truth, pictures that move along beat pictures that are mixed."""
    shot = led_shot(7)
    drift = np.linspace(0, 0.9, 7, dtype=np.float32)[:, None, None] * np.array([1, 0, 0], np.float32)
    meshes = [replace(m, vertices=m.vertices[:1] + drift) if m.character == 0 else m for m in shot.meshes]
    shot = replace(shot, meshes=tuple(meshes))
    truth = np.stack([ControlFilms(shot).picture("masks", t) for t in range(7)]).astype(float)
    # Every second frame is the model's.
    found = at_scene_rate(truth[::2].astype(np.uint8), shot, 12, CPU, quiet).astype(float)
    np.testing.assert_array_equal(found[::2], truth[::2])
    mixed = (truth[:-1:2] + truth[2::2]) / 2
    wrong, plain = np.abs(found[1::2] - truth[1::2]).mean(), np.abs(mixed - truth[1::2]).mean()
    assert plain > 1 and wrong < 0.4 * plain
    # Nothing is left to be drawn: the pictures' own motion is guessed.
    bare = replace(shot, meshes=(), characters=())
    guessed = at_scene_rate(truth[::2].astype(np.uint8), bare, 12, CPU, quiet).astype(float)
    assert wrong < np.abs(guessed[1::2] - truth[1::2]).mean() < 0.8 * plain
    # Beside the surfaces too: a bar that no mesh shows goes on where surfaces show nothing.
    bar = np.zeros_like(truth).astype(np.uint8)
    for t in range(7):
        bar[t, 2:12, 6 + 4 * t : 14 + 4 * t] = 200
    between = at_scene_rate(bar[::2], shot, 12, CPU, quiet)[1::2].astype(float)
    half = (bar[:-1:2].astype(float) + bar[2::2]) / 2
    assert np.abs(between - bar[1::2]).mean() < 0.7 * np.abs(half - bar[1::2]).mean()
    same = truth.astype(np.uint8)
    np.testing.assert_array_equal(at_scene_rate(same, shot, 24, CPU, quiet), same)


class Toy:
    """Answers with its first frame's control, plus the number of its call: what windows would show as a seam."""

    config = {"in_channels": 1, "num_attention_heads": 1}

    def __init__(self) -> None:
        self.calls = 0

    def cache_context(self, name: str) -> None:
        raise AssertionError(name)

    def __call__(self, hidden_states, control_hidden_states, **named):
        self.calls += 1
        return (torch.full_like(hidden_states, float(self.calls)),)


def test_windows_are_fused_without_seams():
    windows, references = even_windows(30, 12, 4), 2
    toy, checks = Toy(), []
    windowed = Windowed(toy, torch.float32, windows, references, lambda: checks.append(1))
    x = torch.zeros(1, 1, 32, 2, 2)
    (answer,) = windowed(hidden_states=x, control_hidden_states=x)
    steps = answer[0, 0, references:, 0, 0].diff().abs()
    assert len(checks) > toy.calls == len(windows) > 1
    # A cut from one window to the next would be a step of 1.
    assert steps.max() < 0.35 and answer[0, 0, -1, 0, 0] == len(windows)
    alone = Windowed(Toy(), torch.float32, even_windows(12, 12, 4), 0, lambda: None)
    assert bool((alone(hidden_states=x[:, :, :12], control_hidden_states=x[:, :, :12])[0] == 1).all())
