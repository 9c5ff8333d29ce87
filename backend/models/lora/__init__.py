"""The user's own LoRAs: read in every layout that they are published in, held against a model, added to its weights."""
