"""What characters remember, in the file."""

from __future__ import annotations

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)
from bpy.types import PropertyGroup


def _paint_color(region: str):
    """A colour of a painted body; choosing another repaints that region."""

    def repaint(self, _context):
        from .scene.rig import paint

        paint.repaint(self.id_data, (region,))

    return FloatVectorProperty(
        name=region.title(),
        description=f"Colour of the painted body's {region}",
        subtype="COLOR_GAMMA",
        size=3,
        min=0.0,
        max=1.0,
        default=(0.8, 0.8, 0.8),
        update=repaint,
    )


_SOURCES = (
    ("RENDER", "Render", "Render the character as it stands in the scene at the reference frame"),
    (
        "IMAGE",
        "Picture",
        "A picture of the character: matched to it with pins, or as the scene's camera sees it at the reference frame",
    ),
)


class MAQUETTE_PG_pin(PropertyGroup):
    """A spot of the body on a picture. The group's name is the spot's, ``left_wrist``."""

    place: FloatVectorProperty(description="Shares of the picture from its upper left corner", size=2)


class MAQUETTE_PG_match(PropertyGroup):
    """The pose and the camera in which a picture shows its character."""

    pins: CollectionProperty(type=MAQUETTE_PG_pin)
    image: PointerProperty(type=bpy.types.Image, description="The picture that was matched")
    solution: StringProperty(description="Pose and camera as JSON; empty where none was found")
    cut_out: BoolProperty(
        name="Cut Out",
        description="Make what lies around the matched body transparent; one with transparent parts stays as it is",
        default=True,
    )
    margin: FloatProperty(
        name="Margin",
        description="How far around the body the picture may be kept, for hair and wide clothes, in percent of the "
        "body's height",
        default=4.0,
        min=0.0,
        max=50.0,
        precision=1,
        subtype="PERCENTAGE",
    )


class MAQUETTE_PG_reference(PropertyGroup):
    """A further picture of a character's looks: its back, its face. The group's name is for the animator."""

    source: EnumProperty(name="Reference", description="Where the picture comes from", items=_SOURCES, default="RENDER")
    image: PointerProperty(name="Picture", type=bpy.types.Image, description="Picture of the character")
    frame: IntProperty(name="Frame", description="Frame whose pose and camera match the picture", default=1)
    match: PointerProperty(
        name="Match", type=MAQUETTE_PG_match, description="The pose and the camera in which the picture shows it"
    )


class MAQUETTE_PG_character(PropertyGroup):
    """Marks a mesh object as a character of the shot, and says what it looks like."""

    is_character: BoolProperty(
        name="Character", description="Send this mesh to the backend as a performer", default=False
    )
    body: StringProperty(
        name="Body", description="Id of the parametric body this mesh was made from; empty for other meshes"
    )
    reference_source: EnumProperty(
        name="Reference",
        description="Where the character's looks come from",
        items=(
            *_SOURCES,
            ("NONE", "None", "No reference: the model invents the looks, or draws them in clay grey"),
        ),
        default="RENDER",
    )
    reference_image: PointerProperty(name="Picture", type=bpy.types.Image, description="Picture of the character")
    reference_frame: IntProperty(
        name="Reference Frame", description="Frame whose pose and camera match the reference picture", default=1
    )
    reference_match: PointerProperty(
        name="Match", type=MAQUETTE_PG_match, description="The pose and the camera in which the picture shows it"
    )
    references: CollectionProperty(
        name="Further Pictures", type=MAQUETTE_PG_reference, description="Pictures from other sides"
    )
    color_skin: _paint_color("skin")
    color_hair: _paint_color("hair")
    color_shirt: _paint_color("shirt")
    color_trousers: _paint_color("trousers")
    color_shoes: _paint_color("shoes")
    color_eyes: _paint_color("eyes")


CLASSES = (MAQUETTE_PG_pin, MAQUETTE_PG_match, MAQUETTE_PG_reference, MAQUETTE_PG_character)
GROUPS = {"Object": MAQUETTE_PG_character}
