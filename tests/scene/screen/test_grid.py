"""Videos side by side: rendered, and each looked for in its place, on its frame."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..builders import module, render_frame, screening, write_film

FRAMES = 6
SIZE = (120, 90)


@pytest.fixture(scope="module")
def colours():
    """Of each film a colour a frame, all apart from each other."""
    return np.random.default_rng(3).permutation(np.linspace(40, 250, 4 * FRAMES * 3)).reshape(4, FRAMES, 3).astype(int)


@pytest.fixture
def stage_set(addon):
    return screening(FRAMES, SIZE)


def add_results(scene, colours, tmp_path, films, comparison="one"):
    """Put films on the list: (size, rate, frame step) each."""
    for index, (size, fps, step) in enumerate(films):
        path = write_film(tmp_path / f"film{index}.mp4", colours[index], fps, size)
        item = scene.maquette.results.add()
        item.name, item.filepath, item.job = path.stem, str(path), f"vid_{index}"
        item.frame_start, item.frame_step, item.frame_count, item.fps = 11, step, FRAMES, fps
        item.model, item.model_label, item.comparison = f"model{index}", f"Model {index}", comparison


def places(addon, films, scene):
    """Where each film's picture lies: (row slice, column slice) of the rendered picture."""
    render = scene.render
    picture = render.resolution_x / render.resolution_y
    found = module(addon, "scene.screen.grid").cells([w / h for (w, h), _, _ in films], picture)
    width, height = render.resolution_x, render.resolution_y
    spans = []
    for cell in found:
        left, right = ((0.5 + cell.x + side * cell.width / 2) * width for side in (-1, 1))
        top, bottom = ((0.5 - cell.y + side * cell.height / 2) * height for side in (-1, 1))
        # Two pixels within: edges blend.
        spans.append((slice(round(top) + 2, round(bottom) - 2), slice(round(left) + 2, round(right) - 2)))
    return spans


def shown(picture, span, colours):
    """Which of the colours fills the upper right quarter of a film's place, and how far off it is."""
    part = picture[span].astype(float)
    quarter = part[: part.shape[0] // 2 - 1, part.shape[1] // 2 + 2 :]
    apart = np.abs(quarter.mean(axis=(0, 1)) - colours).max(axis=1)
    return int(apart.argmin()), float(apart.min()), float(quarter.std(axis=(0, 1)).max())


@pytest.mark.parametrize("mode", ["PLANE", "STRIP"])
@pytest.mark.parametrize(
    "films",
    [
        [((64, 48), 24, 1), ((64, 48), 24, 1)],
        [((64, 48), 24, 1), ((48, 48), 24, 1), ((36, 64), 24, 1)],
        [((64, 48), 24, 1), ((64, 48), 12, 2), ((64, 48), 24, 1), ((80, 48), 24, 1)],
    ],
    ids=["two", "three shapes", "one of every second frame"],
)
def test_each_plays_in_its_place(addon, stage_set, colours, tmp_path, mode, films):
    add_results(stage_set, colours, tmp_path, films)
    assert bpy.ops.maquette.show_side_by_side(mode=mode) == {"FINISHED"}
    stage_set.render.use_sequencer = mode == "STRIP"
    spans = places(addon, films, stage_set)
    for frame in (11, 14, 16):
        picture = render_frame(tmp_path / "out.png", frame)
        for index, (span, (_, _, step)) in enumerate(zip(spans, films, strict=True)):
            found, apart, uneven = shown(picture, span, colours[index])
            assert found == (frame - 11) // step and apart < 12 and uneven < 8, (mode, frame, index)


def test_planes_keep_their_places_through_any_lens(addon, stage_set, colours, tmp_path):
    films = [((64, 48), 24, 1)] * 2
    add_results(stage_set, colours, tmp_path, films)
    lens = stage_set.camera.data
    lens.shift_x, lens.shift_y, lens.lens, lens.sensor_fit = 0.3, -0.2, 24, "VERTICAL"
    stage_set.camera.scale = (2, 0.5, 3)
    stage_set.render.resolution_x, stage_set.render.resolution_y = 90, 120
    bpy.ops.maquette.show_side_by_side()
    picture = render_frame(tmp_path / "out.png", 13)
    for index, span in enumerate(places(addon, films, stage_set)):
        found, apart, uneven = shown(picture, span, colours[index])
        assert found == 2 and apart < 12 and uneven < 8


def test_what_was_shown_before_makes_room(addon, stage_set, colours, tmp_path):
    add_results(stage_set, colours, tmp_path, [((64, 48), 24, 1)] * 3)
    tagged = module(addon, "scene.marks").is_screen
    counts = []
    for call in (
        lambda: bpy.ops.maquette.load_result(job="vid_1"),
        bpy.ops.maquette.show_side_by_side,
        bpy.ops.maquette.show_side_by_side,
        lambda: bpy.ops.maquette.load_result(job="vid_1"),
        bpy.ops.maquette.unload_results,
    ):
        assert call() == {"FINISHED"}
        counts.append(sum(map(tagged, bpy.data.objects)))
    # A backdrop, and a plane and a label for each.
    assert counts == [1, 7, 7, 1, 0]
    assert not bpy.data.curves and not [m for m in bpy.data.materials if "maquette_result" in m]


def test_strips_are_labelled_and_taken_away(addon, stage_set, colours, tmp_path):
    add_results(stage_set, colours, tmp_path, [((64, 48), 24, 1), ((64, 48), 12, 2)])
    strips_of = module(addon, "scene.screen.views").strips_of
    for _ in range(2):
        bpy.ops.maquette.show_side_by_side(mode="STRIP")
    strips = strips_of(stage_set.sequence_editor)
    assert sorted(strip.text for strip in strips if strip.type == "TEXT") == ["Model 0", "Model 1"]
    assert len({strip.channel for strip in strips}) == len(strips) == 5
    bpy.ops.maquette.unload_results()
    assert not len(strips_of(stage_set.sequence_editor))


def test_ticked_videos_come_before_the_comparison(addon, stage_set, colours, tmp_path):
    results = stage_set.maquette.results
    assert not bpy.ops.maquette.show_side_by_side.poll()
    add_results(stage_set, colours, tmp_path, [((64, 48), 24, 1)] * 3)
    beside = module(addon, "operators.result").beside
    assert len(beside(stage_set.maquette)) == 3
    results[0].picked = results[2].picked = True
    assert [item.job for item in beside(stage_set.maquette)] == ["vid_0", "vid_2"]
    results[2].picked = False
    results[0].comparison = ""
    assert [item.job for item in beside(stage_set.maquette)] == []  # the active one belongs to none


def test_labels_tell_videos_of_one_model_apart(addon, stage_set, colours, tmp_path):
    add_results(stage_set, colours, tmp_path, [((64, 48), 24, 1)] * 4)
    results = stage_set.maquette.results
    for item, seed in zip(results, (1, 2, 2, 0), strict=True):
        item.seed = seed
    for item in list(results)[:3]:
        item.model_label = "Nano"
    labels = module(addon, "scene.screen.grid").labels(list(results))
    assert labels == ["Nano, seed 1", "Nano, film1", "Nano, film2", "Model 3"]


def test_a_missing_file_changes_nothing(addon, stage_set, colours, tmp_path):
    add_results(stage_set, colours, tmp_path, [((64, 48), 24, 1)] * 2)
    bpy.ops.maquette.load_result(job="vid_0")
    before = set(bpy.data.objects)
    (tmp_path / "film1.mp4").unlink()
    with pytest.raises(RuntimeError, match="film1.mp4"):
        bpy.ops.maquette.show_side_by_side()
    assert set(bpy.data.objects) == before


def test_without_a_camera_it_says_so(addon, stage_set, colours, tmp_path):
    add_results(stage_set, colours, tmp_path, [((64, 48), 24, 1)] * 2)
    stage_set.camera = None
    with pytest.raises(RuntimeError, match="add a camera"):
        bpy.ops.maquette.show_side_by_side()


@given(st.lists(st.floats(0.3, 3.0), min_size=2, max_size=16), st.floats(0.3, 3.0))
def test_cells_lie_in_the_picture_and_apart(films, picture):
    from maquette.scene.screen.grid import _LABEL, cells

    found = cells(films, picture)
    boxes = []
    for cell, film in zip(found, films, strict=True):
        assert cell.width * picture / cell.height == pytest.approx(film, rel=1e-6)  # not distorted
        box = (cell.x - cell.width / 2, cell.x + cell.width / 2, cell.y - cell.height / 2, cell.y + cell.height / 2)
        assert box[0] >= -0.5 and box[1] <= 0.5 and box[2] - _LABEL >= -0.5 - 1e-9 and box[3] <= 0.5
        boxes.append((box[0], box[1], box[2] - _LABEL, box[3]))
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert a[1] <= b[0] + 1e-9 or b[1] <= a[0] + 1e-9 or a[3] <= b[2] + 1e-9 or b[3] <= a[2] + 1e-9
