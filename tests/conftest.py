"""What several test folders share: `report_fixture` beside this file can be imported by its name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
