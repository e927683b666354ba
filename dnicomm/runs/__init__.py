"""The run folder, shared by what writes runs and what reads them. Importing it loads no torch."""

from dnicomm.runs.checkpoint import Checkpoint
from dnicomm.runs.folder import RunFolder
from dnicomm.runs.recording import Recording
from dnicomm.runs.versions import versions

__all__ = ["Checkpoint", "Recording", "RunFolder", "versions"]
