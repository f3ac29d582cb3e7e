import numpy as np

from tagseg.outputs.heat import HEAT, heat_overlay


def lightness(rgb):
    """CIE L* of 8-bit sRGB."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(np.maximum(luminance, 1e-9)) - 16


def test_lightness_rises_evenly():
    steps = np.diff(lightness(HEAT[::8].astype(float)))
    assert steps.min() > 0
    assert steps.max() < 2.5 * np.median(steps)


def test_more_heat_shows_more_color():
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    hot, cold = heat_overlay(photo, np.ones((8, 8))), heat_overlay(photo, np.zeros((8, 8)))
    assert hot.shape == photo.shape
    assert np.abs(hot.astype(int) - HEAT[255]).mean() < np.abs(cold.astype(int) - HEAT[0]).mean()
    # What is no number, or out of range, is drawn as the nearest end.
    odd = heat_overlay(photo, np.full((8, 8), np.nan))
    assert np.array_equal(odd, cold)
    assert np.array_equal(heat_overlay(photo, np.full((8, 8), 7.0)), hot)
