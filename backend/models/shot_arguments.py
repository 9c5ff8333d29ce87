"""What the commands that make films of shots change about them (no torch, no codecs: ``batch`` may ask a server)."""

from __future__ import annotations

import argparse

from ..catalogue.lora_choice import parse_loras
from ..catalogue.loras import loras_home
from ..catalogue.models import ModelError
from ..shot import UPSCALE_FACTORS


def add_lora_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--lora``."""
    parser.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="NAME=WEIGHT",
        help=f"a file of {loras_home()} to be added to the model, in place of the shot's; may be repeated",
    )


def add_upscale_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--upscale``."""
    parser.add_argument(
        "--upscale", type=int, choices=UPSCALE_FACTORS, help="make the finished film so many times as wide and high"
    )


def given_loras(given: list[str]) -> str:
    """``--lora`` as the option of a shot. Raises ModelError."""
    text = "\n".join(given)
    try:
        parse_loras(text)
    except ValueError as error:
        raise ModelError(f"--lora: {error}") from error
    return text
