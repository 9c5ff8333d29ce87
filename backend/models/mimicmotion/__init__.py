"""MimicMotion: a photoreal video of one person from one picture and pose maps drawn from the rig."""
