"""Where things are below the mount point, for the server and for those who start it."""

from __future__ import annotations

from typing import Final

REPORT_ROOT: Final = "config/tsm/report"
MEASUREMENTS: Final = "measurements"
CCEL: Final = "ccel/CCEL"
CCEL_TABLE: Final = "ccel/CCEL.table"
