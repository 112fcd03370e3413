"""The implementations of this folder can be imported."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # tests are imported by path, so their helpers have to be found
