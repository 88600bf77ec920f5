"""Candidates of the tests' own, for all the files here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # contestants
