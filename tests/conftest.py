"""What several test folders share: `report_fixture` and `search_fixture` beside this file can be imported by their names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
