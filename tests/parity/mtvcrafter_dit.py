"""Checks of this family against the stored examples."""

from __future__ import annotations

from .fixtures import Check

CHECKS: dict[str, Check] = {}
