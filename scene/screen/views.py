"""The finished video as a camera background image and as a sequencer strip; taking results away again."""

from __future__ import annotations

import bpy

from ..marks import TAG
from .colour import undo_transform
from .plane import Cell
from .playback import Playback, set_playback


def add_camera_background(camera: bpy.types.Object, playback: Playback, image: bpy.types.Image) -> None:
    """Show the film behind everything in the camera's viewport."""
    lens = camera.data
    lens.show_background_images = True
    background = lens.background_images.new()
    background.source = "IMAGE"
    background.image = image
    background.frame_method = "STRETCH"
    background.display_depth = "BACK"
    background.alpha = 1.0
    index = len(lens.background_images) - 1
    set_playback(background.image_user, playback, lens, f"background_images[{index}].image_user")


def strips_of(editor: bpy.types.SequenceEditor):
    """Top-level strips; called sequences until 4.4."""
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def has_strips(scene: bpy.types.Scene) -> bool:
    """Whether there is anything in the scene's sequencer."""
    return scene.sequence_editor is not None and len(strips_of(scene.sequence_editor)) > 0


def add_strip(
    scene: bpy.types.Scene, playback: Playback, mute: bool, place: Cell | None = None, label: str = ""
) -> bpy.types.Strip:
    """Put the film into the sequencer, on a free channel, over exactly the frames of the shot.

    A film of another rate goes through a Speed strip whose frame numbers are driven.

    Args:
        mute: leave it silent, so that rendering shows the scene and not the strip.
        place: the part of the picture that it fills; what lies below shows around it. The whole when None.
        label: text under it, for one that has a place.
    """
    editor = scene.sequence_editor or scene.sequence_editor_create()
    strips = strips_of(editor)
    channel = max((strip.channel for strip in strips), default=0) + 1
    name = f"Maquette {playback.film.path.stem}"
    strip = strips.new_movie(
        name=name, filepath=str(playback.film.path), channel=channel, frame_start=playback.start, fit_method="FIT"
    )
    strip.filepath = playback.filepath
    strip[TAG] = playback.key
    strip.mute = mute
    undo_transform(strip.colorspace_settings, scene)
    if place is not None:
        _place(scene, strip, playback, place)
        _add_label(scene, playback, place, label, channel + (1 if playback.rate == 1 else 2))
    if playback.rate == 1:
        return strip
    if playback.duration > strip.frame_final_duration:
        strip.frame_final_duration = playback.duration
    source = "input1" if "input1" in strips.bl_rna.functions["new_effect"].parameters else "seq1"
    speed = strips.new_effect(
        name=f"{name} Speed",
        type="SPEED",
        channel=channel + 1,
        frame_start=playback.start,
        **{source: strip},
        **_length(strips, playback),
    )
    speed[TAG] = playback.key
    if place is not None:
        speed.blend_type = "ALPHA_OVER"
    speed.mute = mute
    speed.use_frame_interpolate = False
    speed.speed_control = "FRAME_NUMBER"
    strip.frame_final_duration = playback.duration
    driver = scene.driver_add(speed.path_from_id("speed_frame_number")).driver
    played = f"clamp(frame-{playback.start},0,{playback.duration - 1})"
    # A quarter more than the whole frame: Blender 5 goes by time, and rounding must not fall to the frame before.
    driver.expression = f"floor({played}*{playback.rate:.12g}+1e-6)+0.25"
    return strip


def _length(strips, playback: Playback) -> dict[str, int]:
    """How long an effect lasts, in the words of this Blender."""
    if "length" in strips.bl_rna.functions["new_effect"].parameters:
        return {"length": playback.duration}
    return {"frame_end": playback.start + playback.duration}


def _place(scene: bpy.types.Scene, strip: bpy.types.Strip, playback: Playback, place: Cell) -> None:
    """Let a strip fill a part of the picture; a scale of 1 shows the film's own pixels."""
    render = scene.render
    strip.blend_type = "ALPHA_OVER"
    strip.transform.scale_x = place.width * render.resolution_x / playback.film.width
    strip.transform.scale_y = place.height * render.resolution_y / playback.film.height
    strip.transform.offset_x = place.x * render.resolution_x
    strip.transform.offset_y = place.y * render.resolution_y


def _add_label(scene: bpy.types.Scene, playback: Playback, place: Cell, label: str, channel: int) -> None:
    """Text under a strip that fills a part of the picture."""
    editor = scene.sequence_editor
    assert editor is not None
    strips = strips_of(editor)
    text = strips.new_effect(
        name=f"Maquette {label}", type="TEXT", channel=channel, frame_start=playback.start, **_length(strips, playback)
    )
    text[TAG] = playback.key
    text.text = label
    text.font_size = max(round(0.035 * scene.render.resolution_y), 8)
    text.location = (0.5 + place.x, 0.5 + place.y - place.height / 2 - 0.005)
    # Alignment was split in two after 4.2: the lines among themselves, and all of them to the place.
    for names, value in ((("anchor_x", "align_x"), "CENTER"), (("anchor_y", "align_y"), "TOP")):
        setattr(text, next(name for name in names if hasattr(text, name)), value)
    text.blend_type = "ALPHA_OVER"


def remove_screens(scene: bpy.types.Scene, way: str, key: str | None = None) -> None:
    """Take away what shows results in the scene in one way; the videos' files stay.

    Args:
        way: ``PLANE``, ``BACKGROUND`` or ``STRIP``.
        key: of one result; None for all.
    """

    def ours(owner) -> bool:
        return owner is not None and TAG in owner and (key is None or owner[TAG] == key)

    if way == "PLANE":
        _remove_planes(scene, ours)
    elif way == "BACKGROUND":
        for camera in [o for o in scene.objects if o.type == "CAMERA"]:
            _remove_backgrounds(camera.data, ours)
    elif scene.sequence_editor is not None:
        _remove_strips(scene, ours)
    for group in (bpy.data.materials, bpy.data.images):
        for datablock in [d for d in group if ours(d) and d.users == 0]:
            group.remove(datablock)


def _remove_planes(scene: bpy.types.Scene, ours) -> None:
    for obj in [o for o in scene.objects if ours(o)]:
        mesh, action = obj.data, obj.animation_data.action if obj.animation_data else None
        bpy.data.objects.remove(obj)
        for datablock in (mesh, action):
            if datablock is not None and datablock.users == 0:
                bpy.data.batch_remove([datablock])


def _remove_backgrounds(lens: bpy.types.Camera, ours) -> None:
    mine = [b for b in lens.background_images if ours(b.image)]
    if not mine:
        return
    # Drivers go by index, which shifts: note them by slot and add those of the slots that stay again.
    kept = [b for b in lens.background_images if not ours(b.image)]
    expressions = {}
    for index, background in enumerate(lens.background_images):
        path = f"background_images[{index}].image_user.frame_offset"
        curve = lens.animation_data.drivers.find(path) if lens.animation_data is not None else None
        if curve is not None:
            if background in kept:
                expressions[kept.index(background)] = curve.driver.expression
            lens.driver_remove(path)
    for background in mine:
        background.image = None  # Removing alone would leave the image with a user.
        lens.background_images.remove(background)
    for index, expression in expressions.items():
        lens.driver_add(f"background_images[{index}].image_user.frame_offset").driver.expression = expression
    if not kept:
        lens.show_background_images = False


def _remove_strips(scene: bpy.types.Scene, ours) -> None:
    strips = strips_of(scene.sequence_editor)
    for strip in sorted((s for s in strips if ours(s)), key=lambda s: s.type != "SPEED"):
        if strip.type == "SPEED":
            scene.driver_remove(strip.path_from_id("speed_frame_number"))
        strips.remove(strip)
    if scene.maquette.sequencer_was_on and not len(strips):
        scene.render.use_sequencer, scene.maquette.sequencer_was_on = True, False
