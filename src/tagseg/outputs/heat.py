"""Heat maps over photos, in colors whose lightness rises evenly with the value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Value, then lightness, chroma and hue (degrees) in OKLCH: from dark violet over red to light yellow. The lightness is
# linear in the value, so equal steps of the value look equal, in gray prints and to the color-blind as well.
_STOPS = np.array(
    [
        [0.00, 0.18, 0.06, 285],
        [0.25, 0.375, 0.16, 315],
        [0.50, 0.57, 0.20, 375],
        [0.75, 0.765, 0.17, 420],
        [1.00, 0.96, 0.10, 465],
    ]
)


def heat_colors(count: int = 256) -> NDArray[np.uint8]:
    """The colors of `count` values spread evenly over 0 to 1: uint8 (count, 3)."""
    value = np.linspace(0, 1, count)
    lightness, chroma, hue = (np.interp(value, _STOPS[:, 0], _STOPS[:, i]) for i in (1, 2, 3))
    return _oklch_to_srgb(lightness, chroma, np.deg2rad(hue))


def heat_overlay(photo: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A map of values in [0, 1] over a grayed photo: uint8 (H, W, 3).

    photo: uint8 (H, W, 3). heat: floats (H, W). The more heat, the less of the photo shows.
    """
    assert heat.shape == photo.shape[:2], (heat.shape, photo.shape)
    value_HW = np.clip(np.nan_to_num(heat), 0, 1)
    color_HW3 = HEAT[np.rint(value_HW * 255).astype(np.uint8)].astype(np.float32)
    gray_HW1 = (photo @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None]
    weight_HW1 = (0.35 + 0.45 * value_HW)[..., None]
    return np.rint(gray_HW1 * (1 - weight_HW1) + color_HW3 * weight_HW1).astype(np.uint8)


def _oklch_to_srgb(
    lightness: NDArray[np.floating], chroma: NDArray[np.floating], hue: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Ottosson's OKLab ("A perceptual color space for image processing", 2020) to 8-bit sRGB, clipped to its gamut."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_linear @ cone**3, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * srgb).astype(np.uint8).T


HEAT = heat_colors()
