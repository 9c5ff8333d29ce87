"""The imports of the package's files, each read once."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def imports_in(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """All import statements of a file, those in functions included."""
    return tuple(
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
    )
