"""Measures ours and, given by path, peers in one run (``make bench``). Not part of the wheel."""
