"""A model for the tests of kills."""

from __future__ import annotations

import time
from typing import Any

from tests.colors import Colors


class Slow(Colors):
    """Takes two hundredths of a second a photo."""

    def segment(self, image_B3HW: Any) -> Any:
        time.sleep(0.02)
        return super().segment(image_B3HW)
