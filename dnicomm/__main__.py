"""``python -m dnicomm``, the same as ``dnicomm``."""

import sys

from dnicomm.cli import main

sys.exit(main())
