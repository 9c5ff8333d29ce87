"""Both models run from a shot to frames on the CPU, with tiny networks and the recipe's weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.media import encode_png, squeeze_frames
from maquette.backend.models.engine import Engine
from maquette.backend.models.family import Cancelled
from maquette.backend.models.frames import frames_to_tensor, tensor_to_frames
from maquette.backend.models.mofa import inputs
from maquette.backend.models.mofa.build import load_network
from maquette.backend.models.mofa.inputs import first_picture, make_steering, to_tensor
from maquette.backend.models.mofa.plan import fit_picture
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import Background, Shot

from ...builders import png
from ..given import begun
from ..tiny import save_weights
from .shots import cut_out, locked, shot_of, small_preset, track, with_person


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def trajectory(folder: Path) -> Engine:
    spec = small_preset(folder, "mofa-trajectory")
    save_weights(spec)
    return Engine(spec, "cpu")


@pytest.fixture(scope="module")
def hybrid(folder: Path) -> Engine:
    spec = small_preset(folder, "mofa-hybrid")
    save_weights(spec)
    return Engine(spec, "cpu")


def run(engine: Engine, shot: Shot) -> np.ndarray:
    return engine.generate(shot, lambda progress: None, lambda: False).frames


def steer(spec: ModelSpec, shot: Shot, frames: int = 5, cmp=None):
    picture = to_tensor(first_picture(shot, fit_picture(spec, shot))[0])
    return make_steering(spec, shot, frames, picture, cmp)


def test_trajectory_model_from_shot_to_frames(trajectory: Engine) -> None:
    shot = shot_of(trajectory.spec, 5, seed=3)
    result = trajectory.generate(shot, lambda progress: None, lambda: False)
    plan = trajectory.plan(shot)
    assert result.frames.shape == (5, plan.height, plan.width, 3)
    assert result.frames.dtype == np.uint8
    assert result.metadata["windows"] == 2
    assert result.metadata["options"]["motion"] == "both"


def test_a_start_from_the_carried_film(trajectory: Engine) -> None:
    """In parity, where the picture is cut."""
    shot = shot_of(trajectory.spec, 5, {"parity": True})
    shot = replace(shot, background=Background("still", (png(16, 8, (90, 160, 40)),)))

    def started(strength: float) -> np.ndarray:
        options = {"parity": True, "carried_start": strength}
        return run(trajectory, replace(shot, settings=replace(shot.settings, options=options)))

    plain, fit = run(trajectory, shot), fit_picture(trajectory.spec, shot)
    assert np.array_equal(started(0.0), plain)
    left, top = fit.offset
    film = carry_shot(shot, *fit.scaled).frames[:, top : top + fit.size[1], left : left + fit.size[0]]
    vae = trajectory.networks["vae"]
    with torch.no_grad():
        pixels = frames_to_tensor(film).transpose(0, 1)
        coded = vae.decode(vae.encode(pixels).latent_dist.mode(), num_frames=5).sample.transpose(0, 1)
    wanted = trajectory.family.fit(trajectory.spec, tensor_to_frames(coded), *plain.shape[2:0:-1])
    assert np.abs(started(1.0).astype(int) - wanted).max() <= 1
    half = started(0.5)
    assert (half != plain).any() and (half != wanted).any()


def test_hybrid_model_from_shot_to_frames(hybrid: Engine) -> None:
    shot = shot_of(hybrid.spec, 3, steps=1)
    frames = run(hybrid, shot)
    assert len(frames) == 3
    # The face and every option of its own have an effect.
    for options in ({"face_strength": 0.2}, {"strength": 0.2}, {"parity": True}):
        other = run(hybrid, replace(shot, settings=replace(shot.settings, options=options)))
        assert other.shape != frames.shape or (other != frames).any(), options
    person = shot.characters[0]
    assert person.keypoints is not None
    moved = replace(person.keypoints, points=person.keypoints.points + np.float32([0.15, 0, 0]))
    assert (run(hybrid, with_person(shot, keypoints=moved)) != frames).any()


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_short_shots_hold_their_last_pose(trajectory: Engine, frames: int) -> None:
    shot = shot_of(trajectory.spec, frames)
    result = trajectory.generate(shot, lambda progress: None, lambda: False)
    assert len(result.frames) == frames
    steering, _ = steer(trajectory.spec, replace(shot, tracks=()), 4)
    flow = steering.motion.flow
    assert flow.shape[1] == 3
    assert torch.equal(flow[:, -1].nan_to_num(), flow[:, max(frames, 2) - 2].nan_to_num())
    if frames == 1:
        assert (flow == 0).all()


def test_cancelling_stops_between_windows(trajectory: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one step there are two windows: the second is not begun."""
    unet = begun(trajectory, shot_of(trajectory.spec, 5)).networks["unet"]
    calls = []
    forward = unet.forward
    monkeypatch.setattr(unet, "forward", lambda *a, **k: (calls.append(1), forward(*a, **k))[1])
    with pytest.raises(Cancelled):
        trajectory.generate(shot_of(trajectory.spec, 5), lambda p: None, lambda: bool(calls))
    assert len(calls) == 1


def test_where_the_motion_comes_from(trajectory: Engine) -> None:
    """A locked camera and still boxes but for one track in the empty part of the picture."""
    spec = trajectory.spec
    shot = locked(shot_of(spec, 5))
    still = tuple(
        replace(m, vertices=m.vertices[:1]) if m.character < 0 else replace(m, vertices=np.repeat(m.vertices[:1], 5, 0))
        for m in shot.meshes
    )
    flag = track(shot, np.array([0.9, 0.0, 1.1]), np.array([0.1, 0.0, 0.0]))
    shot = replace(shot, meshes=still, tracks=(flag,))
    cmp = load_network(spec, "cmp", torch.float32)

    def flow_of(motion: str) -> tuple[torch.Tensor, tuple[str, ...]]:
        chosen = replace(shot, settings=replace(shot.settings, options={"motion": motion}))
        steering, notes = steer(spec, chosen, cmp=cmp)
        return steering.motion.flow, notes

    dense, _ = flow_of("dense")
    assert (dense == 0).all()
    both, notes = flow_of("both")
    labels = steer(spec, replace(shot, tracks=()))[0].motion.labels
    assert labels is not None
    body = labels[0] == 1
    assert body.any()
    assert (both[0, :, :, body] == 0).all()
    assert (both[0, -1, :, ~body] != 0).any()
    assert any("Flag" in note for note in notes)
    slow = track(shot, np.array([0.8, 0.0, 1.2]), np.array([0.001, 0.0, 0.0]), "Slow")
    shot = replace(shot, tracks=(slow, flag))
    tracks, notes = flow_of("tracks")
    assert (tracks[0, -1, :, body] != 0).any()
    (far,) = (note for note in notes if "as far as motion can be spread" in note)
    assert far.startswith("Tracks that move by more") and far.endswith(": Flag")
    bare = replace(shot, tracks=(), settings=replace(shot.settings, options={"motion": "tracks"}))
    _, notes = steer(spec, bare, cmp=cmp)
    assert any("points of the characters are followed" in note for note in notes)


def test_parity_marks_nothing(trajectory: Engine) -> None:
    shot = replace(shot_of(trajectory.spec, 5), tracks=())
    marked = steer(trajectory.spec, shot)[0].motion
    assert marked.flow.isnan().any()
    for options in ({"parity": True}, {"occlusion": False}):
        plain = steer(trajectory.spec, replace(shot, settings=replace(shot.settings, options=options)))[0].motion
        assert plain.flow.isfinite().all(), options


def test_what_the_animator_is_told(trajectory: Engine) -> None:
    shot = replace(shot_of(trajectory.spec, 5, characters=2), tracks=())
    assert any("taken whole" in note for note in first_picture(shot, fit_picture(trajectory.spec, shot))[1])
    # Without the floor mesh the orbiting camera needs a backdrop; body parameters replace a mesh, points both.
    _, notes = steer(trajectory.spec, replace(shot, meshes=()))
    assert any("no geometry" in note for note in notes)
    assert any("Body 1 came without its mesh: its motion is that of its body" in note for note in notes)
    bare = with_person(shot, 1, body=None)
    _, notes = steer(trajectory.spec, replace(bare, meshes=()))
    assert any("Body 2 came without its mesh: its motion is taken from its 32 points" in note for note in notes)
    turned = replace(
        shot.meshes[0], vertices=shot.meshes[0].vertices * np.linspace(1, 9, 5)[:, None, None].astype("f4")
    )
    _, notes = steer(trajectory.spec, replace(shot, meshes=(turned, *shot.meshes[1:])))
    assert any("of Body 1 is in view; the model invents the rest" in note for note in notes)
    away = replace(shot.meshes[0], vertices=shot.meshes[0].vertices + np.float32([90, 0, 0]))
    _, notes = steer(trajectory.spec, replace(shot, meshes=(away, *shot.meshes[1:])))
    assert any("does not show Body 1" in note for note in notes)


def test_cut_outs_are_laid_over_the_background(trajectory: Engine) -> None:
    shot = shot_of(trajectory.spec, 2, characters=2)
    shot = with_person(shot, 0, reference=cut_out(shot, 0, (255, 0, 0), slice(0, 30)))
    shot = with_person(shot, 1, reference=cut_out(shot, 1, (0, 0, 255), slice(60, 96)))
    shot = replace(shot, background=Background("still", (png(96, 64),)))
    fit = fit_picture(trajectory.spec, shot)
    picture, _ = first_picture(shot, fit)
    assert picture.shape == (64, 128, 3)
    assert (picture[:, :36] == (255, 0, 0)).all()
    assert (picture[:, 85:] == (0, 0, 255)).all()
    middle = picture[:, 50:70].reshape(-1, 3)
    assert middle.std() > 10
    parity = replace(shot, settings=replace(shot.settings, options={"parity": True}))
    cropped, _ = first_picture(parity, fit_picture(trajectory.spec, parity))
    assert cropped.shape == (64, 64, 3)
    # 16 of 96 columns are cut off on either side.
    assert (cropped[:, :13] == (255, 0, 0)).all()
    assert (cropped[:, 46:] == (0, 0, 255)).all()


def test_the_whole_picture_is_kept(trajectory: Engine) -> None:
    """96 x 64 becomes 128 x 64 without losing a row, and the result has the clip's shape again."""
    shot = shot_of(trajectory.spec, 2)
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:5], pixels[-5:], pixels[:, :9] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    looks = shot.characters[0].reference
    assert looks is not None
    shot = with_person(shot, reference=replace(looks, image=encode_png(pixels)))
    picture, _ = first_picture(shot, fit_picture(trajectory.spec, shot))
    assert (picture[:3, 20:] == (255, 0, 0)).all()
    assert (picture[-3:, 20:] == (0, 255, 0)).all()
    assert (picture[:, :9] == (0, 0, 255)).all()
    assert not picture[10:-10, 16:].any()
    back = squeeze_frames(picture[None], 96, 64)[0]
    assert np.abs(back.astype(int) - pixels)[8:-8, 14:].max() < 30
    plan = trajectory.plan(shot)
    assert plan.width / plan.height == pytest.approx(1.5, rel=0.01)


def test_the_background_alone_is_a_first_picture(trajectory: Engine) -> None:
    shot = shot_of(trajectory.spec, 5)
    flag = track(shot, np.array([0.0, 0.0, 0.9]), np.array([0.1, 0.0, 0.0]))
    shot = replace(shot, characters=(), meshes=(), tracks=(flag,))
    result = trajectory.generate(shot, lambda progress: None, lambda: False)
    assert len(result.frames) == 5
    assert any("background is taken as the first frame" in note for note in result.notes)


def test_flow_and_picture_agree(trajectory: Engine) -> None:
    """Cut and squeezed pictures move as their own cameras say: projections of a corner of the box."""
    for options in ({}, {"parity": True}):
        shot = replace(shot_of(trajectory.spec, 3, options={"occlusion": False, **options}), tracks=())
        fit = fit_picture(trajectory.spec, shot)
        steering, _ = steer(trajectory.spec, shot, 4)
        labels, flow = steering.motion.labels, steering.motion.flow
        assert labels is not None
        assert labels.shape[1:] == (fit.size[1], fit.size[0])
        view = inputs.model_view(shot, fit, 4)
        vertices = shot.meshes[0].vertices
        uv, depth = view.project(vertices)
        tested = 0
        for corner in np.argsort(depth[0])[:4]:
            inward = uv[0].mean(axis=0) - uv[0, corner]
            column, row = np.floor(uv[0, corner] + inward / np.linalg.norm(inward) * 1.5).astype(int)
            if not (0 <= column < fit.size[0] and 0 <= row < fit.size[1]) or labels[0, row, column] != 1:
                continue
            tested += 1
            found = flow[0, :2, :, row, column].numpy()
            np.testing.assert_allclose(found, uv[1:, corner] - uv[0, corner], atol=0.6)
        assert tested >= 1
