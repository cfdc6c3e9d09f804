"""How far pictures are changed to see how easily a network is deceived.

No torch here: results are known by it.
"""

from __future__ import annotations

from typing import Final

STRENGTHS: Final = (2, 8)
"""Of 255 steps between black and white, by which each pixel moves."""
MOST_SAMPLES: Final = 1000
