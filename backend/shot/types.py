"""The parts of a Shot as frozen dataclasses.

Shape letters: T frames, N surface points, J joints, S shape components, V vertices, F triangles, H W image.

Frames of reference: world is Blender's (right-handed, Z up, metres). Cameras are OpenCV's (x right, y down,
z forward): ``viewmat`` maps world to camera, ``K`` is in pixels of the output image, and pixel centres lie
at +0.5, so that the left edge of the image is u = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..catalogue.models import DEFAULT_MODEL

UPSCALE_FACTORS = (1, 2, 4)
"""How many times as wide and high a finished film can be made."""

SMPL_JOINT_NAMES: tuple[str, ...] = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hand",
    "right_hand",
)
"""SMPL's 24 joints in its own order."""

SMPL_PARENTS: tuple[int, ...] = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip
"""Parent of each SMPL-24 joint; -1 is the root."""


class ShotError(ValueError):
    """A Shot that cannot be used.

    Attributes:
        field: dotted path of the part at fault, such as ``characters[0].points``.
    """

    def __init__(self, field: str, message: str) -> None:
        self.field = _plain(field, 200)
        super().__init__(f"{self.field}: {_plain(message, 800)}")


def _plain(text: str, most: int) -> str:
    """What a file holds may be long, or no text at all; what is said of it is neither."""
    text = text if len(text) <= most else f"{text[: most - 4]} ..."
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, eq=False)
class Media:
    """One encoded picture or film, kept as the bytes of its file.

    Attributes:
        data: the file's bytes.
        mime: ``image/png``, ``image/jpeg`` or ``video/mp4``.
    """

    data: bytes
    mime: str

    @property
    def is_video(self) -> bool:
        """Whether this is a film rather than a picture."""
        return self.mime.startswith("video/")


@dataclass(frozen=True, eq=False)
class Clip:
    """Timing and camera.

    Attributes:
        fps: frames per second.
        width, height: size of the output image in pixels.
        viewmats: (T,4,4) float32, world to OpenCV camera.
        Ks: (T,3,3) float32, pixels of the output image.
    """

    fps: float
    width: int
    height: int
    viewmats: np.ndarray
    Ks: np.ndarray

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return int(self.viewmats.shape[0])


@dataclass(frozen=True, eq=False)
class BodyPose:
    """Parameters of a parametric body, so that a backend can rebuild its mesh.

    Attributes:
        body: id of the body model, such as ``maquette_neutral`` (a file in presets/bodies) or ``smplx_female``.
        betas: (S,) float32 shape.
        poses: (T,J,3) float32 axis-angle in radians, each joint relative to its parent; the root's turns the
            body's canonical frame (Y up) into the world (Z up).
        trans: (T,3) float32 metres, added after posing.
    """

    body: str
    betas: np.ndarray
    poses: np.ndarray
    trans: np.ndarray


@dataclass(frozen=True, eq=False)
class Keypoints:
    """The spots on a body that pose maps are drawn from, named in ``keypoints.KEYPOINT_NAMES``.

    Attributes:
        points: (T,128,3) float32 world; 0 where the body has none.
        state: (T,128) uint8, each a ``keypoints.KeypointState``: absent, hidden, behind the own body, or visible from
            the camera of that frame.
    """

    points: np.ndarray
    state: np.ndarray


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface of the scene as it moves: a character's, with what it wears, or a part of the set.

    Attributes:
        name: of the object.
        character: index into the shot's characters, or -1 for the set.
        vertices: (T,V,3) float32 world, or (1,V,3) when it never moves.
        triangles: (F,3) int32 indices of vertices.
    """

    name: str
    character: int
    vertices: np.ndarray
    triangles: np.ndarray


@dataclass(frozen=True, eq=False)
class Track:
    """A spot that the animator picked to lead the motion: an empty, or a vertex of some object.

    Attributes:
        name: unique within the shot.
        points: (T,3) float32 world.
        visibility: (T,) bool, seen from the camera of that frame.
    """

    name: str
    points: np.ndarray
    visibility: np.ndarray


@dataclass(frozen=True, eq=False)
class Reference:
    """What a character looks like, and where its surface lies in that picture.

    Attributes:
        image: the picture.
        points: (N,3) float32 world, the character's surface points at the moment of the picture.
        viewmat: (4,4) float32, world to OpenCV camera of the picture.
        K: (3,3) float32, pixels of the picture.
        visibility: (N,) bool, points that the picture shows; None when unknown.
        keypoints: with one frame, at the moment of the picture; None when the body has none.
        vertices: (V,3) float32 world, the character's meshes of the shot at the moment of the picture, one after
            another in their order; of a character without meshes those of its parametric body. None when unknown.
        clay: the same picture with the character in mid grey, under the same light; None when that is unknown.
    """

    image: Media
    points: np.ndarray
    viewmat: np.ndarray
    K: np.ndarray
    visibility: np.ndarray | None = None
    keypoints: Keypoints | None = None
    vertices: np.ndarray | None = None
    clay: Media | None = None


@dataclass(frozen=True, eq=False)
class Character:
    """One performer: the same N spots on the skin in every frame.

    Attributes:
        name: unique within the shot.
        points: (T,N,3) float32 world.
        rest_points: (N,3) float32 metres, the same spots on the rest pose: Y up, facing +Z, pelvis at the origin.
        visibility: (T,N) bool, seen from the camera of that frame (inside the image and not occluded).
        joints: (T,24,3) float32 world in SMPL order, or None for a mesh without such joints.
        body: parameters when the body is parametric.
        reference: its looks; None when the animator gave none.
        keypoints: of its pose maps; None when the model takes none, or the body has none.
        further_references: more pictures of the same looks: its back, its face.
    """

    name: str
    points: np.ndarray
    rest_points: np.ndarray
    visibility: np.ndarray
    joints: np.ndarray | None = None
    body: BodyPose | None = None
    reference: Reference | None = None
    keypoints: Keypoints | None = None
    further_references: tuple[Reference, ...] = ()

    @property
    def references(self) -> tuple[Reference, ...]:
        """Every picture of it, the one for models that take a single one first."""
        return (() if self.reference is None else (self.reference,)) + self.further_references


@dataclass(frozen=True, eq=False)
class Background:
    """What stands behind the characters.

    Attributes:
        kind: ``none``, ``still`` or ``video``.
        media: nothing; one picture; or either one film or one picture per frame of the clip.
    """

    kind: str = "none"
    media: tuple[Media, ...] = ()


@dataclass(frozen=True, eq=False)
class Clay:
    """The characters as they move, in mid grey under the scene's own light: what light does to them, and they to it.

    Attributes:
        media: one picture per frame of the clip, or one when nothing changes.
        surroundings: whether the pictures show the background too, with the shadows and reflections that the
            characters cast on it; else they show the characters alone on transparent ground.
    """

    media: tuple[Media, ...]
    surroundings: bool = False


@dataclass(frozen=True)
class Settings:
    """What to run. None leaves the choice to the model's preset.

    Attributes:
        model: id in presets/models.
        seed: 0 to 2**32 - 1.
        steps: denoising steps.
        guidance: scale of classifier-free guidance; 1 turns it off.
        width, height: size in pixels to generate at; the result is at the clip's aspect, snapped to what the
            model takes.
        options: what the model alone has, by the names in its description; left out means its default.
        quality: id in presets/quality, which fills in what is left open here; None is the model's own advice.
        upscale: how many times as wide and high the finished film is made by a network of its own, one of
            ``UPSCALE_FACTORS``.
    """

    model: str = DEFAULT_MODEL
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    width: int | None = None
    height: int | None = None
    options: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    quality: str | None = None
    upscale: int = 1


@dataclass(frozen=True, eq=False)
class Shot:
    """Everything a backend needs to make one video.

    Attributes:
        meshes: the surfaces of characters and set, for models that use them; else empty.
        tracks: spots picked by the animator, for models that are led by trajectories; else empty.
        clay: how the scene's light falls on the characters; None when that is unknown.
    """

    clip: Clip
    characters: tuple[Character, ...]
    background: Background = field(default_factory=Background)
    prompt: str = ""
    settings: Settings = field(default_factory=Settings)
    name: str = "shot"
    meshes: tuple[Mesh, ...] = ()
    tracks: tuple[Track, ...] = ()
    clay: Clay | None = None
