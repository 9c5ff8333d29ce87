"""Run a module of this folder as a process of its own: ``python -I start.py MODULE SPEC.json``.

It is started by path, under Blender's Python (see ``process.Mailbox``): the package, whose name differs from one
Blender to the next and whose root wants ``bpy``, is loaded from here under another name.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    folder = Path(__file__).resolve().parents[1]
    found = importlib.util.spec_from_file_location(
        "maquette_backend", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert found is not None and found.loader is not None
    package = importlib.util.module_from_spec(found)
    sys.modules[found.name] = package
    found.loader.exec_module(package)
    module, path = sys.argv[1], Path(sys.argv[2])
    spec = json.loads(path.read_text("utf-8"))
    # It may hold a token.
    path.unlink()
    importlib.import_module(f"{found.name}.client.{module}").main(spec)
