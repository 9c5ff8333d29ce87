"""What a character looks like: a picture, with the pose and the camera at which it shows the character.

Shape letters: N points, H W image.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import bpy
import numpy as np

from ...backend.bodies.matching import Match
from ...backend.shot import Keypoints, Media, Reference, ShotError
from ..camera.matrices import CameraView, read_camera
from ..rig.characters import GEOMETRY
from ..stage import Keeper, Stage, open_stage
from . import render
from .characters import Performer
from .clay import ClayBodies
from .cut_out import cut_out
from .geometry import GeometryReader
from .keypoints import as_keypoints
from .match import standing
from .media import picture_from_image
from .mesh import MeshReading
from .pace import BREATH
from .stills import Pictures
from .surfaces import move
from .visibility import SELF_MARGIN, Occluders, Sight, VisibilityQuery

_SAME_ASPECT = 0.01


@dataclass(frozen=True, eq=False)
class Studio:
    """What all references of a shot are taken with.

    Attributes:
        pictures: takes them.
        geometry: the shot's meshes, once they are known; None for a model that uses none.
        clay: whether rendered references come with the body in clay.
        notices: sentences for the animator.
    """

    keeper: Keeper
    pictures: Pictures
    geometry: GeometryReader | None
    clay: bool
    notices: list[str]


@dataclass(frozen=True, eq=False)
class Asked:
    """One picture of a character that the animator asks for.

    Attributes:
        character: the object's name.
        rendered: whether it is rendered; else ``image`` is the animator's own, None where none is chosen.
        frame: whose pose and camera it shows.
        name: of a further reference, else empty.
        match: in which pose and by which camera the picture shows it; None where it is as at ``frame``.
        margin: where the picture is to be cut out, heights of the body that are kept around it; else None.
    """

    character: str
    rendered: bool
    image: bpy.types.Image | None
    frame: int
    name: str = ""
    match: Match | None = None
    margin: float | None = None

    @property
    def field(self) -> str:
        """Its path in the shot."""
        return f"characters.{self.character}.{'further_references' if self.name else 'reference'}"

    @property
    def series(self) -> str:
        """What its picture is called among a capture's; see ``Pictures``."""
        return f"{self.field} {self.name} {self.frame}"

    @property
    def clay_series(self) -> str:
        """The same of its picture in clay."""
        return f"{self.series} clay"

    def picture(self) -> tuple[Media, int, int]:
        """The animator's own picture, its width and height.

        Raises:
            ShotError: there is none, or it cannot be read.
        """
        if self.image is None:
            what = f"'{self.character}': its {self.words} has no picture; choose one, or set it to Render"
            raise ShotError(self.field, what)
        return picture_from_image(self.image, self.field)

    @property
    def words(self) -> str:
        """What to call it in a sentence about the character."""
        return f"reference '{self.name}'" if self.name else "reference"

    @property
    def moment(self) -> str:
        """What to call its frame."""
        if self.match is not None:
            return f"the moment of its {self.words}"
        return f"frame {self.frame} of its {self.words}" if self.name else f"its reference frame {self.frame}"


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
        reading: the mesh that they are on.
    """

    view: CameraView
    points: np.ndarray
    visibility: np.ndarray
    keypoints: Keypoints | None
    reading: MeshReading


def read_moment(performer: Performer, stage: Stage, frame: int) -> Moment:
    """Read a character that is ``alone`` on a stage."""
    depsgraph = stage.at(frame)
    view = read_camera(stage.scene, depsgraph)
    points, reading = performer.read(depsgraph)
    targets = [VisibilityQuery.on_skin(points, performer.height, 0)]
    places = None
    if performer.keypoints is not None:
        places = performer.keypoints.read(depsgraph, reading)
        targets.append(performer.keypoints.targets(places, 0, SELF_MARGIN * performer.height))
    occluders = Occluders({performer.object: 0}, dict.fromkeys(performer.worn, 0), lambda obj: False)
    sight = occluders.look(depsgraph, view, VisibilityQuery.joined(targets), {performer.object: reading})
    count = len(points)
    keypoints = None
    if performer.keypoints is not None and places is not None:
        states = performer.keypoints.states(Sight(sight.seen[count:], sight.hidden[count:]))
        keypoints = as_keypoints([places], [states])
    return Moment(view, points, sight.seen[:count], keypoints, reading)


Taking = Generator[object, None, Reference]
"""Takes a reference; yields ``BREATH`` on the way."""


def render_reference(studio: Studio, performer: Performer, index: int, asked: Asked) -> Taking:
    """Render one character, the shot's ``index``-th, alone through the scene's camera; the backdrop is transparent."""
    keeper, pictures = studio.keeper, studio.pictures
    stage = alone(keeper, performer, lit=pictures.engine == "SCENE")
    side = max(render.shot_side(keeper.scene), render.REFERENCE_SIDE)
    pictures.set_up(stage, transparent=True, side=side)
    if pictures.engine == "WORKBENCH":
        render.show_base_colours(stage.scene.objects, keeper.changes)
    yield BREATH
    moment = read_moment(performer, stage, asked.frame)
    vertices = _vertices(studio, performer, index, asked, stage, moment)
    yield BREATH
    made = _reference(_one(pictures, asked.series, stage, asked), moment, moment.view.K, vertices)
    if not studio.clay:
        return made
    yield BREATH
    if asked.frame in pictures.known(asked.clay_series):
        return replace(made, clay=_one(pictures, asked.clay_series, stage, asked))
    with ClayBodies(stage, [performer.object, *performer.worn]).standing(asked.frame):
        yield BREATH
        return replace(made, clay=_one(pictures, asked.clay_series, stage, asked))


def _one(pictures: Pictures, series: str, stage: Stage, asked: Asked) -> Media:
    """The only picture of a series."""
    (picture,) = pictures.take(series, stage, [asked.frame], asked.field)
    pictures.note(series, [picture])
    return picture


def picture_reference(studio: Studio, performer: Performer, index: int, asked: Asked) -> Taking:
    """The animator's own picture, which shows the character as it was matched, or as the camera sees it at a frame.

    Without a match, a picture of another shape than the render is taken to lie within it, centred and whole, as a
    camera background image set to Fit does. Its light is not known: it comes without clay.

    Raises:
        ShotError: no picture, an unreadable one, or one at whose frame the camera does not see the character.
    """
    name = asked.character
    media, width, height = asked.picture()
    yield BREATH
    stage = alone(studio.keeper, performer, lit=False)
    match = asked.match
    if match is not None:
        with standing(stage, performer.object, asked.frame, match, (width, height), asked.field):
            made = _shown(studio, performer, index, asked, stage, media, (width, height))
            if asked.margin is not None and asked.image is not None:
                folder = studio.pictures.folder
                media = cut_out(stage, media, asked.image, asked.margin * match.tall, folder, asked.field)
        if match.trouble:
            studio.notices.append(f"'{name}': the match of its {asked.words} is {match.trouble}")
        return replace(made, image=media)
    return _shown(studio, performer, index, asked, stage, media, (width, height))


def _shown(
    studio: Studio, performer: Performer, index: int, asked: Asked, stage: Stage, media: Media, size: tuple[int, int]
) -> Reference:
    """A picture of some pixels that shows the character as the stage's camera sees it at the picture's frame."""
    name, (width, height) = asked.character, size
    moment = read_moment(performer, stage, asked.frame)
    view = moment.view
    if not moment.visibility.any():
        raise ShotError(
            asked.field,
            f"the camera does not see '{name}' at {asked.moment}; "
            + ("set the picture's own frame" if asked.match is None else "match its picture again"),
        )
    output = stage.scene.render
    pixel = np.array([output.pixel_aspect_x, output.pixel_aspect_y], dtype=np.float64)
    K, same = fit_intrinsics(view.K, view.width, view.height, width, height, pixel / pixel.min())
    if not same:
        studio.notices.append(
            f"'{name}': its {asked.words} is a picture of {width}x{height} but the render {view.width}x{view.height}; "
            "the picture is taken to lie centred within the render (Fit). Match to Picture gives it a camera of its own"
        )
    made = _reference(media, moment, K, _vertices(studio, performer, index, asked, stage, moment))
    if not in_picture(made, width, height).any():
        studio.notices.append(
            f"'{name}': its {asked.words}, {width}x{height}, leaves out the part of the render where the camera sees "
            f"it at frame {asked.frame}, so nothing of its looks is known; use a picture of the render's shape"
        )
    return made


def in_picture(reference: Reference, width: int, height: int) -> np.ndarray:
    """(N,) bool, the points that the camera sees and that lie within a picture of this size."""
    camera = reference.points @ reference.viewmat[:3, :3].T + reference.viewmat[:3, 3]
    pixels = camera @ reference.K.T
    uv = pixels[:, :2] / np.maximum(pixels[:, 2:], 1e-6)
    seen = camera[:, 2] > 0 if reference.visibility is None else reference.visibility
    return seen & ((uv >= 0) & (uv <= [width, height])).all(axis=1)


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


def _vertices(
    studio: Studio, performer: Performer, index: int, asked: Asked, stage: Stage, moment: Moment
) -> np.ndarray | None:
    """(V,3) float32 world, the character's meshes of the shot at the moment; those of its parametric body without."""
    geometry, reading, obj = studio.geometry, moment.reading, performer.object
    if geometry is None:
        return None
    if not geometry.has(index):
        whole = performer.body is not None and len(reading.vertices) == len(obj.data.vertices)
        return move(reading.vertices, reading.matrix).astype(np.float32) if whole else None
    vertices = geometry.moment(index, stage.depsgraph, reading)
    if vertices is None:
        studio.notices.append(
            f"'{obj.name}': what it wears is not the same at {asked.moment} as in the shot; its looks are carried "
            "less exactly. Take a frame of the shot"
        )
    return vertices


def _reference(image: Media, moment: Moment, K: np.ndarray, vertices: np.ndarray | None) -> Reference:
    return Reference(
        image=image,
        points=moment.points.astype(np.float32),
        viewmat=moment.view.viewmat.astype(np.float32),
        K=K.astype(np.float32),
        visibility=moment.visibility,
        keypoints=moment.keypoints,
        vertices=vertices,
    )
