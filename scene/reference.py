"""What a character looks like: a picture, with the pose and the camera at which it shows the character.

Shape letters: N points, H W image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..backend.shot import Keypoints, Media, Reference, ShotError
from . import capture_render
from .camera import CameraView, read_camera
from .capture_characters import GEOMETRY, Performer
from .capture_keypoints import as_keypoints
from .capture_media import picture_from_image
from .state import Keeper, Stage, open_stage
from .visibility import SELF_MARGIN, Occluders, Sight, Targets

_SAME_ASPECT = 0.01


def alone(keeper: Keeper, performer: Performer, lit: bool) -> Stage:
    """A stage with nothing to see but one character and what it wears, and the scene's lights when ``lit``."""
    shown = {performer.object, *performer.worn}
    objects = [o for o in keeper.scene.objects if o in shown or (lit and o.type not in GEOMETRY)]
    keeper.changes.set(performer.object, "hide_render", False)
    return open_stage(keeper.scene, keeper.view_layer, keeper.changes, objects, "Maquette Reference")


@dataclass(frozen=True, eq=False)
class Moment:
    """A character at the moment of its picture, with nothing else in the scene.

    Attributes:
        view: the camera.
        points: (N,3) float64 world, the spots on its skin.
        visibility: (N,) bool.
        keypoints: with one frame, or None.
    """

    view: CameraView
    points: np.ndarray
    visibility: np.ndarray
    keypoints: Keypoints | None


def read_moment(performer: Performer, stage: Stage, frame: int) -> Moment:
    """Read a character that is ``alone`` on a stage."""
    depsgraph = stage.at(frame)
    view = read_camera(stage.scene, depsgraph)
    points, reading = performer.read(depsgraph)
    targets = [Targets.on_skin(points, performer.height, 0)]
    places = None
    if performer.keypoints is not None:
        places = performer.keypoints.read(depsgraph, reading)
        targets.append(performer.keypoints.targets(places, 0, SELF_MARGIN * performer.height))
    occluders = Occluders({performer.object: 0}, dict.fromkeys(performer.worn, 0), lambda obj: False)
    sight = occluders.look(depsgraph, view, Targets.joined(targets), {performer.object: reading})
    count = len(points)
    keypoints = None
    if performer.keypoints is not None and places is not None:
        states = performer.keypoints.states(Sight(sight.seen[count:], sight.hidden[count:]))
        keypoints = as_keypoints([places], [states])
    return Moment(view, points, sight.seen[:count], keypoints)


def render_reference(keeper: Keeper, performer: Performer, frame: int, engine: str, folder: Path) -> Reference:
    """Render one character alone through the scene's camera; the backdrop is transparent.

    Args:
        frame: whose pose and camera to show.
        engine: ``WORKBENCH`` or ``SCENE``.
        folder: for the picture on its way.
    """
    stage = alone(keeper, performer, lit=engine == "SCENE")
    side = max(capture_render.shot_side(keeper.scene), capture_render.REFERENCE_SIDE)
    capture_render.set_up(stage, engine, transparent=True, side=side)
    if engine == "WORKBENCH":
        capture_render.show_base_colours(stage.scene.objects, keeper.changes)
    moment = read_moment(performer, stage, frame)
    picture = capture_render.render(stage, folder, f"characters.{performer.object.name}.reference")
    return _reference(Media(picture, "image/png"), moment, moment.view.K)


def picture_reference(keeper: Keeper, performer: Performer, frame: int, notices: list[str]) -> Reference:
    """The animator's own picture, which shows the character as the camera sees it at ``frame``.

    A picture of another shape than the render is taken to lie within it, centred and whole, as a camera background
    image set to Fit does.

    Raises:
        ShotError: no picture, an unreadable one, or one at whose frame the camera does not see the character.
    """
    obj = performer.object
    field = f"characters.{obj.name}.reference"
    image = obj.maquette.reference_image
    if image is None:
        raise ShotError(field, f"'{obj.name}' has no reference picture; choose one, or set its reference to Render")
    media, width, height = picture_from_image(image, field)
    stage = alone(keeper, performer, lit=False)
    moment = read_moment(performer, stage, frame)
    view = moment.view
    if not moment.visibility.any():
        raise ShotError(
            field,
            f"the camera does not see '{obj.name}' at its reference frame {frame}; set the picture's own frame",
        )
    render = stage.scene.render
    pixel = np.array([render.pixel_aspect_x, render.pixel_aspect_y], dtype=np.float64)
    K, same = fit_intrinsics(view.K, view.width, view.height, width, height, pixel / pixel.min())
    if not same:
        notices.append(
            f"'{obj.name}': its reference picture is {width}x{height} but the render {view.width}x{view.height}; "
            "the picture is taken to lie centred within the render (Fit)"
        )
    return _reference(media, moment, K)


def fit_intrinsics(
    K: np.ndarray, width: int, height: int, picture_width: int, picture_height: int, pixel: np.ndarray
) -> tuple[np.ndarray, bool]:
    """Intrinsics of a picture that lies within the render.

    Args:
        K: (3,3) pixels of the ``width`` x ``height`` render.
        picture_width, picture_height: of the picture, whose pixels are square.
        pixel: (2,) shape of the render's pixels.

    Returns:
        (3,3) pixels of the picture, and whether both have the same shape (within 1 %).
    """
    shown = np.array([width, height]) * pixel
    picture = np.array([picture_width, picture_height], dtype=np.float64)
    ratio = picture / shown
    same = abs(ratio[0] / ratio[1] - 1) <= _SAME_ASPECT
    scale = ratio if same else np.full(2, ratio.max())
    fitted = np.array(K, dtype=np.float64)
    middle = np.array([width, height]) / 2
    fitted[:2, :2] *= (scale * pixel)[:, None]
    fitted[:2, 2] = (fitted[:2, 2] - middle) * scale * pixel + picture / 2
    return fitted, bool(same)


def _reference(image: Media, moment: Moment, K: np.ndarray) -> Reference:
    return Reference(
        image=image,
        points=moment.points.astype(np.float32),
        viewmat=moment.view.viewmat.astype(np.float32),
        K=K.astype(np.float32),
        visibility=moment.visibility,
        keypoints=moment.keypoints,
    )
