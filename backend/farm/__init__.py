"""Job bundles for render farms: shots captured by Blender, a film of each, one table of all."""
