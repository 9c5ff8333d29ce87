"""What there is to choose from, read from ``presets``; for both halves, so nothing but the standard library.

A kind of preset is a frozen dataclass, a preset one TOML file in the kind's folder, its name the preset's id.
``reader`` holds a file against its dataclass.
"""
