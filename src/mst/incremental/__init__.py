"""A network under lossless coding comes in; its output at each step goes out, computed from what has changed."""

from .execution import Execution, Observer
from .program import Program, program_of
from .recording import Key, NotRecordableError

__all__ = ["Execution", "Key", "NotRecordableError", "Observer", "Program", "program_of"]
