"""The main job told as a story on the local harness (``make demo``). Not part of the wheel."""
