"""The 55-degree lens that joint-driven models know, and the camera moved so that the body keeps its size.

Shape letters: T frames.
"""

from __future__ import annotations

import bpy
import numpy as np

from ...backend.shot import ShotError
from ...backend.shot.framing import TRAINED_DISTANCE, trained_lens
from .. import keys
from .framing import ObservedShot, observe
from .matrices import render_size
from .timeline import camera_spans

_SAME = 1e-3


def set_trained_lens(scene: bpy.types.Scene, *, keep_framing: bool, replace_zoom: bool) -> list[str]:
    """Give every camera of the shot the lens that spans 55 degrees over the larger side of the picture.

    Args:
        keep_framing: move each camera along its view so that the characters keep their size.
        replace_zoom: also where the lens is keyed to change.

    Returns:
        Sentences for the animator.

    Raises:
        ShotError: a lens or a camera cannot be changed so; nothing has been then.
    """
    cameras = [c for c in camera_spans(scene, scene.frame_start, scene.frame_end) if c.type == "CAMERA"]
    if not cameras:
        raise ShotError("camera", "the scene has none; add a camera and make it the scene's active camera")
    for camera in cameras:
        _check_lens(camera, replace_zoom)
        if keep_framing:
            _check_place(camera)
    seen = observe(scene) if keep_framing else None
    notes = []
    for camera in cameras:
        before, lens = camera.data.lens, _lens(scene, camera)
        moved = _dolly(scene, camera, lens, seen) if seen is not None else ""
        _set_lens(camera, lens)
        notes.append(f"{camera.name}: {before:.1f} mm became {lens:.1f} mm, 55 degrees{moved}")
        if camera.data.users > 1:
            notes.append(f"{camera.name} shares its lens with another camera, which has changed too")
        if camera.data.shift_x or camera.data.shift_y:
            notes.append(
                f"{camera.name} has a lens shift, which the model knows as a body beside the middle; set Shift X and Y "
                "to 0 and turn the camera instead"
            )
    return notes


def _lens(scene: bpy.types.Scene, camera: bpy.types.Object) -> float:
    optics, render = camera.data, scene.render
    return trained_lens(
        optics.sensor_width,
        optics.sensor_height,
        optics.sensor_fit,
        *render_size(render),
        render.pixel_aspect_x,
        render.pixel_aspect_y,
    )


def _lens_curve(camera: bpy.types.Object) -> bpy.types.FCurve | None:
    return next((curve for curve in keys.curves(camera.data) if curve.data_path == "lens"), None)


def _check_lens(camera: bpy.types.Object, replace_zoom: bool) -> None:
    optics = camera.data
    if optics.library or camera.library:
        raise ShotError("camera", f"'{camera.name}' is linked from another file; change its lens there")
    if optics.type != "PERSP":
        raise ShotError("camera", f"'{camera.name}' is not perspective; set its lens type to Perspective")
    animation = optics.animation_data
    if animation is not None and animation.drivers.find("lens") is not None:
        raise ShotError(
            "camera", f"the lens of '{camera.name}' is driven; delete the driver (right-click Focal Length) first"
        )
    if animation is not None and any(track.strips for track in animation.nla_tracks):
        raise ShotError("camera", f"the lens of '{camera.name}' is moved by NLA strips; mute or remove them first")
    curve = _lens_curve(camera)
    if curve is None or replace_zoom:
        return
    values = [point.co[1] for point in curve.keyframe_points] or [optics.lens]
    if max(values) - min(values) > _SAME or len(curve.modifiers):
        raise ShotError(
            "camera",
            f"the lens of '{camera.name}' zooms from {min(values):.0f} to {max(values):.0f} mm; turn on Replace Zoom "
            "to give up the zoom, or keep it: distances are then converted",
        )


def _check_place(camera: bpy.types.Object) -> None:
    cure = "; move it yourself, or leave Keep Framing off"
    if camera.parent is not None or any(not constraint.mute for constraint in camera.constraints):
        raise ShotError("camera", f"'{camera.name}' follows a parent or a constraint{cure}")
    animation = camera.animation_data
    if animation is None:
        return
    if any(track.strips for track in animation.nla_tracks):
        raise ShotError("camera", f"'{camera.name}' is moved by NLA strips{cure}")
    if any(curve.data_path == "location" for curve in animation.drivers):
        raise ShotError("camera", f"the location of '{camera.name}' is driven{cure}")
    curves = _location_curves(camera)
    if not curves:
        return
    frames = [[point.co[0] for point in curve.keyframe_points] for curve in curves]
    if len(curves) != 3 or any(row != frames[0] for row in frames) or any(len(c.modifiers) for c in curves):
        raise ShotError(
            "camera", f"'{camera.name}' is not keyed on all three axes at the same frames; key its location anew"
        )


def _location_curves(camera: bpy.types.Object) -> list[bpy.types.FCurve]:
    found = [curve for curve in keys.curves(camera) if curve.data_path == "location"]
    return sorted(found, key=lambda curve: curve.array_index)


def _dolly(scene: bpy.types.Scene, camera: bpy.types.Object, lens: float, seen: ObservedShot) -> str:
    """Move a camera along its view by as much as the lens changes; returns what to say of it."""
    at = [index for index, view in enumerate(seen.views) if view.name == camera.name]
    if not at:
        return ""
    middle = np.mean(list(seen.middles.values()), axis=0)
    fitted = _fitted(scene, camera)
    offsets, depths = [], []
    for index in at:
        view = seen.views[index]
        depth = float((view.viewmat @ np.append(middle[index], 1.0))[2])
        # The focal length in pixels is that of the frame: a zoom changes it.
        former = view.K[0, 0] * fitted / lens
        after = depth / former if former > 0 else depth
        offsets.append(view.viewmat[2, :3] * (depth - after))
        depths.append(after)
    frames, offsets_T3 = seen.frames[at], np.array(offsets)
    curves = _location_curves(camera)
    if curves:
        for axis, curve in enumerate(curves):
            for point in curve.keyframe_points:
                shift = float(np.interp(point.co[0], frames, offsets_T3[:, axis]))
                point.co[1] += shift
                point.handle_left[1] += shift
                point.handle_right[1] += shift
            curve.update()
        camera.update_tag(refresh={"TIME"})
        now = int(np.abs(frames - scene.frame_current).argmin())
        camera.location = [value + shift for value, shift in zip(camera.location, offsets_T3[now], strict=True)]
    else:
        camera.location = [v + shift for v, shift in zip(camera.location, np.median(offsets_T3, axis=0), strict=True)]
    low, high = TRAINED_DISTANCE
    return f", {np.median(depths):.1f} m from the characters (the model knows {low} to {high} m best)"


def _fitted(scene: bpy.types.Scene, camera: bpy.types.Object) -> float:
    """Millimetres of focal length that one pixel of it stands for."""
    optics, render = camera.data, scene.render
    width, height = render_size(render)
    wide, tall = render.pixel_aspect_x * width, render.pixel_aspect_y * height
    fit = optics.sensor_fit
    horizontal = fit == "HORIZONTAL" or (fit == "AUTO" and wide >= tall)
    sensor = optics.sensor_height if fit == "VERTICAL" else optics.sensor_width
    return sensor / ((wide if horizontal else tall) / render.pixel_aspect_x)


def _set_lens(camera: bpy.types.Object, lens: float) -> None:
    curve = _lens_curve(camera)
    if curve is not None:
        for modifier in list(curve.modifiers):
            curve.modifiers.remove(modifier)
        for point in curve.keyframe_points:
            point.co[1] = point.handle_left[1] = point.handle_right[1] = lens
        curve.update()
        camera.data.update_tag(refresh={"TIME"})
    camera.data.lens = lens
