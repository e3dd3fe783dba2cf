"""Serving service tables: doors, parts that may be replaced, supervision, the watchdog."""
