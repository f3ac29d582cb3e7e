"""What the values of a mask mean: 0 is background, 1 and up are classes."""

from __future__ import annotations

BACKGROUND = "background"
"""The name of class 0."""
IGNORE = 255
"""The value of pixels that count neither for a class nor against it."""
UNKNOWN = 254
"""What a stored value becomes that no class has: a mask with it is refused."""
