"""Published tables of 3D edits: their scenes and prompts, on captures that the user has."""
