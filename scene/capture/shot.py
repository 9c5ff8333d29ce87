"""Read the scene into a Shot.

Shape letters: C characters, T frames, N points, R = C N points of all characters.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ...backend.bodies.types import BodyError
from ...backend.shot import Background, Character, Clay, Clip, Reference, Settings, Shot, ShotError, validate
from ...backend.shot.validate import MAX_CHARACTERS
from ..camera.matrices import clip_fps, render_size
from ..camera.timeline import shot_frames
from ..marks import is_screen
from ..rig.characters import GEOMETRY, find_characters, worn_by
from ..stage import open_stage, scene_kept, shown_layer
from .background import film_background, picture_background, scene_background
from .characters import Performer
from .clay import scene_clay
from .keypoints import as_keypoints
from .looks import asked_of
from .memory import Recall
from .mesh import TopologyError
from .pace import BREATH, PICTURE, READ, Pace
from .performance import PerformanceReader, leave_out_modifiers
from .reference import Asked
from .render import film_side, shot_side
from .rendered import as_rendered
from .stills import UNSEEN, Pictures
from .tracks import find_spots
from .wants import Wants, preset_wants

Progress = Callable[[int, int], None]

_LONG = 600
"""Frames from which on rendering a background is worth a warning."""


def capture_shot(
    context: bpy.types.Context,
    *,
    on_progress: Progress | None = None,
    notices: list[str] | None = None,
    wants: Wants | None = None,
    part: range | None = None,
) -> Shot:
    """Read the context's scene into a Shot in one go, and leave the scene as found.

    Args:
        on_progress: called with the steps done and their number; may raise to stop, and the scene is as it was.
        notices, wants, part: see ``capture_steps``.

    Raises:
        ShotError: see ``capture_steps``.
    """
    steps = capture_steps(context.scene, notices=notices, wants=wants, part=part)
    try:
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                return end.value
            if on_progress is not None:
                on_progress(done, total)
    finally:
        steps.close()


def capture_steps(
    scene: bpy.types.Scene,
    *,
    notices: list[str] | None = None,
    wants: Wants | None = None,
    part: range | None = None,
    pace: Pace | None = None,
    recall: Recall | None = None,
) -> Generator[tuple[int, int], None, Shot]:
    """Read a scene into a Shot, step by step, and leave it as found.

    Surfaces (with the render's modifiers), joints and cameras are read from the evaluated scene frame by frame,
    visibility against everything that shows in renders. The scene's own frame, selection, mode and settings are not
    touched, so that a window may be used between steps; until the generator has ended or is closed, throw-away copies
    of the scene exist beside it. Close it before the file is saved or undone.

    Args:
        notices: sentences for the animator are appended: nothing is wrong, but they may want to know.
        wants: which parts the model uses; None goes by the preset of the scene's model.
        part: frames to take instead of the scene's range; a character that they do not show is no error.
        pace: says after which steps a window gets its turn; None lets it have one after each.
        recall: pictures that need not be taken again; takes in those that are made.

    Yields:
        Steps done and their number.

    Returns:
        The Shot, validated.

    Raises:
        ShotError: the scene cannot be captured; the message names the part at fault and the cure.
    """
    notes = notices if notices is not None else []
    options = scene.maquette
    wants = preset_wants(options.model) if wants is None else wants
    layer = shown_layer(scene)
    frames = shot_frames(scene) if part is None else part
    pace = Pace(windowed=not bpy.app.background) if pace is None else pace
    width, height = render_size(scene.render)
    if min(width, height) < 8:
        raise ShotError("resolution", f"the output is {width}x{height}; at least 8x8 pixels are needed")
    characters = find_characters(scene, layer)
    if len(characters) > MAX_CHARACTERS:
        raise ShotError("characters", f"the scene has {len(characters)}; at most {MAX_CHARACTERS} are possible")
    if scene.render.use_border:
        notes.append("The render border is ignored: a shot is the whole picture")
    filed = wants.pictures and options.background in ("PICTURE", "VIDEO")
    behind = _file_background(scene, frames, notes) if filed else Background()
    fps = clip_fps(scene)
    spots = find_spots(scene) if wants.tracks else []

    engine = options.render_engine
    renders = len(frames) if wants.pictures and options.background == "SCENE" else 0
    clays = len(frames) if wants.clay else 0
    asked = [asked_of(obj) if wants.pictures else [] for obj in characters]
    pictures = sum(map(len, asked)) + renders + clays
    total, done = len(frames) + pictures, 0
    clay: Clay | None = None
    with scene_kept(scene, layer) as keeper, tempfile.TemporaryDirectory(prefix="maquette-") as folder:

        def steps(made: Iterator[object]) -> Generator[tuple[int, int], None, Any]:
            """Take the steps of a part of the capture; returns what the last brings."""
            nonlocal done
            last = None
            for last in made:
                if last is BREATH:
                    pace.breathe()
                elif last is not None:
                    break
                else:
                    done += 1
                    kind = READ if done <= len(frames) else PICTURE
                    reads = max(len(frames) - done, 0)
                    pace.step(kind, engine, {READ: reads, PICTURE: total - done - reads})
                paused = pace.pausing
                if paused:
                    keeper.settle()
                yield done, total
                if paused:
                    keeper.resume()
            return last

        seen = _seen_objects(scene, layer, characters)
        for obj in seen:
            if obj.mode == "EDIT":
                obj.update_from_editmode()
            if obj.hide_viewport and (obj in characters or not obj.hide_render):
                keeper.changes.set(obj, "hide_viewport", False)
        pictures = Pictures(engine, Path(folder), wants.rough, recall)
        if recall is not None:
            _recall(recall, scene, seen, characters, asked, frames, wants)
        as_rendered(keeper.changes, seen, characters, notes)
        # What only carries a track is evaluated too, but is no more part of the picture than before.
        unseen = list(dict.fromkeys(spot.object for spot in spots if spot.object not in seen))
        stage = open_stage(scene, layer, keeper.changes, [*seen, *unseen])

        def never(obj: bpy.types.Object) -> bool:
            return is_screen(obj) or obj in unseen

        while True:
            reader = PerformanceReader(
                keeper, stage, characters, asked, frames, wants, never, spots, pictures, part is None
            )
            try:
                yield from steps(reader.read())
                break
            except TopologyError as change:
                left_out = [] if wants.meshes_required else leave_out_modifiers(keeper.changes, change.object)
                if not left_out:
                    raise
                notes.append(
                    f"'{change.object.name}' changes the number of its vertices, so that no spot on its skin could be "
                    f"followed; it is captured without its modifiers {', '.join(left_out)}"
                )
                done = 0
            except BodyError as error:
                raise ShotError("characters", str(error)) from error
        notes += reader.notices
        bodies = [obj for p in reader.performers for obj in (p.object, *sorted(p.worn, key=lambda o: o.name_full))]
        surroundings = None
        if renders:
            hidden = set(bodies)
            surroundings = [o for o in seen if o not in hidden]
            _check_background(surroundings, len(frames), notes)
            made = scene_background(keeper, surroundings, frames, pictures)
            behind = (yield from steps(made)) or behind
        if clays:
            clay = yield from steps(scene_clay(keeper, bodies, surroundings, frames, pictures))

    shot = Shot(
        clip=Clip(
            fps=fps,
            width=width,
            height=height,
            viewmats=np.stack([view.viewmat for view in reader.views]).astype(np.float32),
            Ks=np.stack([view.K for view in reader.views]).astype(np.float32),
        ),
        characters=tuple(
            _character(performer, looks, any(mesh.character == index for mesh in reader.meshes), notes)
            for index, (performer, looks) in enumerate(zip(reader.performers, reader.looks, strict=True))
        ),
        background=behind,
        meshes=reader.meshes,
        tracks=tuple(spot.track() for spot in spots),
        clay=clay,
    )
    shot = with_settings(shot, scene, wants)
    validate(shot)
    return shot


def _recall(
    recall: Recall,
    scene: bpy.types.Scene,
    seen: list[bpy.types.Object],
    characters: list[bpy.types.Object],
    asked: list[list[Asked]],
    frames: range,
    wants: Wants,
) -> None:
    """Look which pictures are known, before anything is changed."""
    if scene.render.use_motion_blur:
        return  # A picture shows more than its own frame.
    worn = {obj: worn_by(obj, scene) for obj in characters}
    bodies = {*characters, *(each for some in worn.values() for each in some)}
    eyes = [obj for obj in scene.objects if obj.type == "CAMERA"]
    world = [scene.world] if scene.world is not None else []
    lights = [obj for obj in seen if obj.type not in GEOMETRY]
    around = [obj for obj in seen if obj not in bodies and obj.type not in UNSEEN]
    how = (wants.rough, film_side(scene), shot_side(scene))
    for name, shown in (("background", around), ("clay", seen)):
        recall.begin(name, (how, [obj.name_full for obj in shown]), [*shown, *eyes, *world], frames)
    for obj, each in zip(characters, asked, strict=True):
        for one in each if all(one.rendered for one in each) else ():
            for name in (one.series, one.clay_series):
                recall.begin(name, how, [obj, *worn[obj], *lights, *eyes, *world], range(one.frame, one.frame + 1))


UPSCALES = {"OFF": 1, "X2": 2, "X4": 4}
"""How many times as wide and high, by the items of the scene's property."""


def with_settings(shot: Shot, scene: bpy.types.Scene, wants: Wants) -> Shot:
    """A shot with what the scene says of the model and its work."""
    options = scene.maquette
    return replace(
        shot,
        prompt=options.prompt,
        settings=Settings(
            model=options.model,
            seed=options.seed,
            steps=options.steps or None,
            guidance=options.guidance or None,
            options=dict(wants.options),
            quality=options.quality,
            upscale=UPSCALES[options.upscale],
        ),
        name=Path(bpy.data.filepath).stem or scene.name,
    )


def _seen_objects(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, characters: list[bpy.types.Object]
) -> list[bpy.types.Object]:
    """Objects of the view layer whose collections show in renders, and the characters; no results of ours."""
    found: dict[bpy.types.Object, None] = dict.fromkeys(characters)

    def walk(layer: bpy.types.LayerCollection) -> None:
        if layer.exclude or layer.collection.hide_render:
            return
        for obj in layer.collection.objects:
            if not is_screen(obj):
                found[obj] = None
        for child in layer.children:
            walk(child)

    walk(view_layer.layer_collection)
    return list(found)


def _file_background(scene: bpy.types.Scene, frames: range, notes: list[str]) -> Background:
    options = scene.maquette
    if options.background == "PICTURE":
        return picture_background(options.background_path)
    return film_background(options.background_path, len(frames), clip_fps(scene), notes)


def _check_background(objects: list[bpy.types.Object], frames: int, notes: list[str]) -> None:
    if not any(o.type in GEOMETRY or o.instance_type != "NONE" for o in objects):
        notes.append("The scene holds nothing but characters: the background is the plain backdrop")
    if frames > _LONG:
        notes.append(f"{frames} frames of background were rendered; a shorter range is captured faster")


def _character(performer: Performer, looks: list[Reference], meshed: bool, notes: list[str]) -> Character:
    body = performer.body_pose(notes)
    if body is None and not meshed:
        looks = [replace(look, vertices=None) for look in looks]  # Nobody could tell whose vertices they are.
    return Character(
        name=performer.object.name,
        points=np.stack(performer.points_T),
        rest_points=performer.rest_points.astype(np.float32),
        visibility=np.stack(performer.visibility_T),
        joints=np.stack(performer.joints_T) if performer.joints_T else None,
        body=body,
        reference=looks[0] if looks else None,
        keypoints=as_keypoints(performer.keypoints_T, performer.states_T) if performer.keypoints_T else None,
        further_references=tuple(looks[1:]),
    )
