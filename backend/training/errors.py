"""What is wrong with a training run."""

from __future__ import annotations


class TrainingError(ValueError):
    """A run that cannot start or go on; the message says what to change."""
