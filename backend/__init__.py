"""Everything that works without Blender: the Shot, bodies, motions, client, server and models."""
