"""A shot at another size or rate, so that every control film of it is (numpy only).

Shape letters: T frames of the shot, S frames at the new rate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..bodies.rotations import axis_angle_to_matrix, matrix_to_quat, quat_to_axis_angle, slerp
from ..raster.surfaces import body_surface
from ..shot import Character, Clip, Keypoints, Media, Mesh, Shot, ShotError

LEAST_SIDE = 16
MOST_SIDE = 8192


def fit_size(shot: Shot, width: int | None, height: int | None, multiple: int) -> tuple[int, int, list[str]]:
    """The size of a control film.

    Args:
        width, height: asked for; None is the shot's own.
        multiple: both sides become multiples of it, the nearest; at least 2, as films have even sides.

    Returns:
        Width, height, and notes for the animator.

    Raises:
        ShotError: a size that no film has.
    """
    asked = (width or shot.clip.width, height or shot.clip.height)
    for side in asked:
        if not LEAST_SIDE <= side <= MOST_SIDE:
            raise ShotError("size", f"{asked[0]}x{asked[1]}; choose sides from {LEAST_SIDE} to {MOST_SIDE} pixels")
    made = [max(multiple, multiple * round(side / multiple)) for side in asked]
    notes = []
    if tuple(made) != asked:
        notes.append(f"Size {asked[0]}x{asked[1]} became {made[0]}x{made[1]}: sides are multiples of {multiple}")
    return made[0], made[1], notes


def reframed(shot: Shot, width: int, height: int) -> tuple[Shot, list[str]]:
    """The shot seen at another size: as much of the middle of its picture as the new shape allows, never squeezed.

    Returns:
        The shot, and notes for the animator.
    """
    clip = shot.clip
    if (width, height) == (clip.width, clip.height):
        return shot, []
    scale = max(width / clip.width, height / clip.height)
    shift = (width - scale * clip.width) / 2, (height - scale * clip.height) / 2
    Ks = clip.Ks.astype(np.float64)
    Ks[:, :2] *= scale
    Ks[:, 0, 2] += shift[0]
    Ks[:, 1, 2] += shift[1]
    notes = []
    lost = [-side / scale for side in shift]
    for by, edges in zip(lost, ("left and right", "top and bottom"), strict=True):
        if by >= 0.5:
            notes.append(
                f"{width}x{height} has another shape than the shot's {clip.width}x{clip.height}: {by:.0f} of its "
                f"pixels are cut off at {edges} each"
            )
    return replace(shot, clip=replace(clip, width=width, height=height, Ks=Ks.astype(np.float32))), notes


def squeezed(shot: Shot, width: int, height: int) -> Shot:
    """The whole of the shot's picture at another size, squeezed where that has another shape."""
    clip = shot.clip
    Ks = clip.Ks.copy()
    Ks[:, :2] *= np.array([[width / clip.width], [height / clip.height]], np.float32)
    return replace(shot, clip=replace(clip, width=width, height=height, Ks=Ks))


def resampled(shot: Shot, fps: float | None) -> tuple[Shot, list[str]]:
    """The shot at another rate, over the same time. Frame s shows the moment s / fps.

    Surfaces, joints and cameras are interpolated between the shot's frames; pictures, and what is seen of a point, are
    those of the nearest frame. After the last frame everything stands still.

    Returns:
        The shot, and notes for the animator.

    Raises:
        ShotError: a rate that no film has.
    """
    clip = shot.clip
    if fps is None or abs(fps - clip.fps) < 1e-6:
        return shot, []
    if not 1 <= fps <= 240:
        raise ShotError("fps", f"{fps:g} frames per second; choose 1 to 240")
    count = max(1, round(clip.frames * fps / clip.fps))
    seconds, before = count / fps, clip.frames / clip.fps
    lasting = f"{seconds:.3f} s" + ("" if abs(seconds - before) < 1e-6 else f" instead of {before:.3f} s")
    notes = [f"{clip.frames} frames at {clip.fps:g} per second became {count} at {fps:g}, lasting {lasting}"]
    pictures = [shot.background.media, () if shot.clay is None else shot.clay.media]
    if any(len(media) > 1 for media in pictures):
        notes.append("Background and clay are pictures of the nearest frame; only what has geometry moves in between")
    return shot_at(shot, np.arange(count) * (clip.fps / fps), fps), notes


def shot_at(shot: Shot, at: np.ndarray, fps: float) -> Shot:
    """The shot at moments ``at`` (S,), in frames of it, as a clip of ``fps``; see ``resampled``."""
    clip = shot.clip
    moments = _Moments(np.clip(at, 0, clip.frames - 1), clip.frames)
    shot = _with_meshes(shot)
    return replace(
        shot,
        clip=Clip(fps, clip.width, clip.height, moments.cameras(clip.viewmats), moments.mix(clip.Ks)),
        characters=tuple(_character(character, moments) for character in shot.characters),
        meshes=tuple(
            mesh if len(mesh.vertices) == 1 else replace(mesh, vertices=moments.mix(mesh.vertices))
            for mesh in shot.meshes
        ),
        tracks=tuple(
            replace(track, points=moments.mix(track.points), visibility=track.visibility[moments.nearest])
            for track in shot.tracks
        ),
        background=replace(shot.background, media=_pictures(shot.background.media, moments)),
        clay=None if shot.clay is None else replace(shot.clay, media=_pictures(shot.clay.media, moments)),
    )


class _Moments:
    """Times (S,) in frames of the shot.

    Attributes:
        nearest: (S,) the frame nearest to each.
    """

    def __init__(self, at: np.ndarray, frames: int) -> None:
        self.low = np.floor(at + 1e-6).astype(int)
        self.high = np.minimum(self.low + 1, frames - 1)
        self.share = np.clip(at - self.low, 0, 1)
        self.nearest = np.where(self.share < 0.5, self.low, self.high)

    def mix(self, values: np.ndarray) -> np.ndarray:
        """Values (T,...) as (S,...) float32, linear in time."""
        share = self.share.astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
        return (values[self.low] * (1 - share) + values[self.high] * share).astype(np.float32)

    def cameras(self, viewmats: np.ndarray) -> np.ndarray:
        """Cameras (T,4,4) as (S,4,4) float32: places are linear in time, turns evenly fast."""
        views = viewmats.astype(np.float64)
        turns = views[:, :3, :3]
        centres = -np.einsum("tji,tj->ti", turns, views[:, :3, 3])
        quats = matrix_to_quat(turns)
        turned = slerp(quats[self.low], quats[self.high], self.share)
        made = np.tile(np.eye(4), (len(self.low), 1, 1))
        made[:, :3, :3] = axis_angle_to_matrix(quat_to_axis_angle(turned))
        share = self.share[:, None]
        centre = centres[self.low] * (1 - share) + centres[self.high] * share
        made[:, :3, 3] = -np.einsum("tij,tj->ti", made[:, :3, :3], centre)
        return made.astype(np.float32)


def _with_meshes(shot: Shot) -> Shot:
    """The shot with the meshes of bodies that it only tells the parameters of: vertices can be mixed, turns cannot."""
    more = []
    for index, character in enumerate(shot.characters):
        if any(mesh.character == index for mesh in shot.meshes):
            continue
        if (surface := body_surface(character)) is not None:
            more.append(Mesh(character.name, index, surface[0].astype(np.float32), surface[1].astype(np.int32)))
    return replace(shot, meshes=(*shot.meshes, *more)) if more else shot


def _character(character: Character, moments: _Moments) -> Character:
    body, keypoints = character.body, character.keypoints
    if body is not None:
        # The meshes are mixed; parameters are only asked for the shape.
        body = replace(body, poses=body.poses[moments.nearest], trans=body.trans[moments.nearest])
    if keypoints is not None:
        there = (keypoints.state[moments.low] > 0) & (keypoints.state[moments.high] > 0)
        nearest = keypoints.points[moments.nearest]
        points = np.where(there[..., None], moments.mix(keypoints.points), nearest)
        keypoints = Keypoints(points, keypoints.state[moments.nearest])
    return replace(
        character,
        points=moments.mix(character.points),
        visibility=character.visibility[moments.nearest],
        joints=None if character.joints is None else moments.mix(character.joints),
        body=body,
        keypoints=keypoints,
    )


def _pictures(media: tuple[Media, ...], moments: _Moments) -> tuple[Media, ...]:
    """One picture per frame follows the frames; a single one stays, and a film plays at its own rate."""
    return tuple(media[i] for i in moments.nearest) if len(media) > 1 else media
