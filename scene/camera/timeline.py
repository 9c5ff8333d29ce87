"""Which frames make a shot, and through which cameras they are seen."""

from __future__ import annotations

import bpy

from ...backend.shot import ShotError
from ...backend.shot.validate import MAX_FRAMES


def shot_frames(scene: bpy.types.Scene) -> range:
    """The scene's frames that make the shot, by its range and frame step.

    Raises:
        ShotError: an empty range, or more frames than a shot can have.
    """
    frames = range(scene.frame_start, scene.frame_end + 1, scene.frame_step)
    if not frames:
        raise ShotError(
            "frames", f"the range {scene.frame_start} to {scene.frame_end} is empty; set its end after its start"
        )
    if len(frames) > MAX_FRAMES:
        raise ShotError(
            "frames",
            f"the range {scene.frame_start} to {scene.frame_end} has {len(frames)} frames; at most {MAX_FRAMES} are "
            "possible, shorten it",
        )
    return frames


def camera_spans(
    scene: bpy.types.Scene, start: int, end: int, camera: bpy.types.Object | None = None
) -> dict[bpy.types.Object, list[tuple[int, bool]]]:
    """Which cameras the frames ``start`` to ``end`` are seen through, by the markers' cameras, and from when on.

    Args:
        camera: the one to take where no marker binds any; the scene's active one by default.

    Returns:
        camera -> [(frame, whether it is the active one from there on), ...]; empty when there is no camera.
    """
    marks = sorted(
        ((m.frame, m.camera) for m in scene.timeline_markers if m.camera is not None and not m.camera.hide_render),
        key=lambda mark: mark[0],
    )
    if not marks:
        taken = camera if camera is not None and camera.name in scene.objects else scene.camera
        return {taken: [(start, True)]} if taken is not None and taken.type == "CAMERA" else {}
    # Before the first marker Blender takes that marker's camera.
    first = next((c for frame, c in reversed(marks) if frame <= start), marks[0][1])
    cuts = [(start, first), *((frame, c) for frame, c in marks if start < frame <= end)]
    cameras = dict.fromkeys(c for _, c in cuts)
    return {c: [(frame, active == c) for frame, active in cuts] for c in cameras}
