"""Write docs/openapi.json: the wire as the server's code describes it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from maquette.backend.server.app import create_app
from maquette.backend.server.config import ServerConfig

TARGET = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"


def openapi() -> str:
    """The document's text."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(ServerConfig(Path(folder)), "")
        text = json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"
        app.state.backend.store.close()
    return text


if __name__ == "__main__":
    TARGET.write_text(openapi(), "utf-8")
    print(TARGET)
