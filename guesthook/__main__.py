"""``cguest-hook``: the program behind the files in kata-agent's hook directory.

Arguments are the hook's file name and its kind, ``prestart`` or ``poststop``; agents of the 0.8 era
give the file name twice. There are no options: everything else is in the measured ``hooks.toml``.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

from guesthook.hook import Invocation, read_state
from guesthook.settings import HOOKS_TOML

KINDS: Final = ("prestart", "poststop")
GIVE_UP_SECONDS: Final = 9  # nothing waits this long but for a caller that keeps our input open
USAGE: Final = "usage: cguest-hook prestart|poststop < STATE.json\n"


def main(settings_path: str = HOOKS_TOML, kernel_log: str = "/dev/kmsg") -> int:
    """Run one hook and return its exit code. The arguments are for tests."""
    kind = sys.argv[-1]
    if len(sys.argv) < 2 or kind not in KINDS:
        asked = kind in ("-h", "--help")
        os.write(1 if asked else 2, USAGE.encode())
        return 0 if asked else 2
    signal.alarm(GIVE_UP_SECONDS)
    return Invocation(settings_path, kernel_log).run(kind, read_state(0))


if __name__ == "__main__":
    sys.exit(main())
