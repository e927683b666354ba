"""``python -m dnicomm``, the same as ``dnicomm``."""

import os
import sys

if sys.path and sys.path[0] in ("", os.getcwd()):
    # ``-m`` puts the working folder first, which may be that of a stranger's run; a command that
    # imports modules from it says so itself
    del sys.path[0]

from dnicomm.cli import main

sys.exit(main())
