"""LoRAs, Upscale, Download and Export Matte as an animator sees them.

Pictured, as the word after ``--`` says: the Shot panel with two LoRAs and its parts open (the default), the
preferences' models with a Download button (``models``), what Download asks first (``download``), or the dialog of
Export Matte (``matte``). No backend is needed: what it would say of a download is written here.
"""

import importlib
import inspect
import sys
from pathlib import Path

import bpy

STATE = next((word for word in ("models", "download", "matte") if word in sys.argv), "panel")
ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
LORAS = [
    {"name": "wan2.1_t2v_lora_rank64_lightx2v_4step", "steps": 4, "guidance": 1.0, "shift": 5.0, "megabytes": 316.0},
    {"name": "style/Ink", "megabytes": 87.0},
    {"name": "sdxl_detail", "reason": "it was made for another model"},
]
waits = 0
hidden = []


def open_parts(name, *functions):
    """Have the parts of a panel open at once: nothing tells Blender to open them."""
    panels = [gui.module(f"panels.{each}") for each in ("shot", "models", "preferences", "result")]
    for function in functions:
        source = inspect.getsource(getattr(gui.module(f"panels.{name}"), function))
        exec(source.replace("default_closed=True", "default_closed=False"), vars(gui.module(f"panels.{name}")))
        for panel in panels:
            if hasattr(panel, function):
                setattr(panel, function, getattr(gui.module(f"panels.{name}"), function))


def offer_weights():
    """As if the publishers had been asked."""
    fetching, offers = gui.module("scene.job.fetching"), gui.module("backend.catalogue.weights_offer")
    name = "Wan-AI/Wan2.1-VACE-14B-diffusers"
    one = offers.OfferedRepository(
        name, "c0ffee", 22, 83_100_000_000, "Apache-2.0", f"https://huggingface.co/{name}/blob/main/LICENSE.txt"
    )
    fetching._model, fetching._backend = "vace-14b", gui.module("scene.job.backends").name()
    fetching._offer = offers.WeightsOffer("vace-14b", (one,), "/data/models", 166_200_000_000, 410_000_000_000)


def setup():
    """A body, a moving camera, and the models as a backend names them: of VACE the small one is here, with LoRAs."""
    gui.empty()
    bpy.ops.maquette.add_body("EXEC_DEFAULT")
    bpy.ops.maquette.add_camera_move("EXEC_DEFAULT", move="ORBIT")
    gui.module("scene.job.backends").show_models(gui.described(("isa-nano", "vace-1.3b"), loras=LORAS))
    if STATE == "panel":
        open_parts("models", "draw_options")
        open_parts("shot", "_draw_advanced")
        bpy.ops.maquette.choose_model(model="vace-1.3b")
        for name in ("wan2.1_t2v_lora_rank64_lightx2v_4step", "style/Ink"):
            bpy.ops.maquette.add_lora(model="vace-1.3b", lora=name)
        entry = next(each for each in bpy.context.scene.maquette.options if each.option == "loras")
        entry.as_weights[1] = 0.6
        # The panels above would fill the screen.
        for name in ("body", "motion", "camera"):
            for kind in gui.module(f"panels.{name}").CLASSES:
                if issubclass(kind, bpy.types.Panel):
                    bpy.utils.unregister_class(kind)
                    hidden.append(kind)
    elif STATE in ("models", "download"):
        python = gui.module("scene.job.backends").local().python
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        open_parts("preferences", "_draw_models")
        gui.view()[1].type = "PREFERENCES"
        bpy.ops.maquette.open_preferences()
        if STATE == "download":
            offer_weights()
    elif STATE == "matte":
        film = gui.module("tests.scene.builders").write_film(Path("/tmp/walk.mp4"), [(20, 90, 220)] * 4, size=(64, 48))
        bpy.context.preferences.view.filebrowser_display_type = "SCREEN"
        item = bpy.context.scene.maquette.results.add()
        item.name, item.filepath, item.frame_count = "Walk", str(film), 4


def ready():
    """When it is drawn."""
    global waits
    waits += 1
    if waits == 6 and STATE == "matte":
        with gui.in_view():
            bpy.ops.maquette.export_matte("INVOKE_DEFAULT")
    return waits > 24


def done():
    """Blender ends with the panels that it began with."""
    for kind in hidden:
        bpy.utils.register_class(kind)
