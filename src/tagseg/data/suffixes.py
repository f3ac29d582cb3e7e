"""Which files are photos by their names: those that are read, and pictures that have to be converted first."""

from __future__ import annotations

from importlib.util import find_spec

from PIL import features

HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
AVIF_SUFFIXES = frozenset({".avif"})
HAS_HEIC = find_spec("pillow_heif") is not None
HAS_AVIF = "avif" in features.get_supported_modules()
PHOTO_SUFFIXES = (
    frozenset(
        {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
    )
    | (HEIC_SUFFIXES if HAS_HEIC else frozenset())
    | (AVIF_SUFFIXES if HAS_AVIF else frozenset())
)
"""Suffixes of the files that are read as photos on this machine."""
MASK_SUFFIXES = frozenset({".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".gif"})
"""Those of them that can store a mask: their formats lose nothing."""
NAMED_SUFFIXES = PHOTO_SUFFIXES | HEIC_SUFFIXES | AVIF_SUFFIXES
"""Suffixes that are no part of a photo's name, the same on every machine."""
_PICTURES = """
    3fr ai arw bpg cr2 cr3 crw dcm dcr djvu dng emf eps erf exr fff fits hdr ico iiq j2c j2k jp2 jpf jpm jpx jxl jxr kdc mef
    mos mpo mrw nef nii nrw orf pbm pcx pef pfm pgm pict pnm ppm psb psd qoi raf ras raw rw2 rwl sgi sr2 srf srw svg svgz tga
    wdp wmf x3f xbm xcf xpm avi m4v mkv mov mp4 mpg mpeg webm wmv pdf
"""
UNREAD_SUFFIXES = (HEIC_SUFFIXES | AVIF_SUFFIXES) - PHOTO_SUFFIXES | {f".{end}" for end in _PICTURES.split()}
"""Suffixes of pictures, films and documents that have to be converted to be read."""


def suffix(name: str) -> str:
    """The suffix of a name or path with forward slashes, in small letters: `.jpg`."""
    base = name.rpartition("/")[2]
    at = base.rfind(".")
    return base[at:].lower() if 0 < at < len(base) - 1 else ""


def looks_like_photo(name: object) -> bool:
    """Whether a text ends as the name of a picture does."""
    if not isinstance(name, str):
        return False
    tail = name.strip().lower().rpartition(".")
    return bool(tail[0]) and f".{tail[2]}" in NAMED_SUFFIXES | UNREAD_SUFFIXES


def to_read(unread: str) -> str:
    """What to do about a file with one of UNREAD_SUFFIXES."""
    if unread in HEIC_SUFFIXES:
        return 'pip install "tagseg[heic]", or convert to JPEG'
    if unread in AVIF_SUFFIXES:
        return "pip install -U pillow, or convert to JPEG"
    return "convert to JPEG or PNG"
