"""The build of a library that decides a stage's bits: part of the stage's fingerprint.

A version alone does not say which decoder a library was built with: a wheel of Pillow brings its own
libjpeg-turbo, a distribution's package uses the system's.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from kvspark.errors import ModelError

_PICTURES = ("jpg", "libjpeg_turbo", "webp", "libtiff")
"""The decoders of Pillow whose versions may give other pixels; PNG, GIF and BMP leave no choice."""


@cache
def build_of(library: str) -> str:
    """`library` with its version, and the versions of its decoders where it has some.

    Raises:
        ModelError: it is not installed.
    """
    try:
        named = f"{library} {version(library)}"
    except PackageNotFoundError:
        raise ModelError(
            f"a stage of the model computes with {library}, which is not installed here; "
            f"run pip install {library}, on the driver and where the executors run"
        ) from None
    decoders = _decoders(library)
    return f"{named} ({decoders})" if decoders else named


def _decoders(library: str) -> str:
    if library == "pillow":
        from PIL import features

        return ", ".join(f"{name} {features.version(name)}" for name in _PICTURES)
    if library == "soundfile":
        import soundfile

        return f"libsndfile {soundfile.__libsndfile_version__}"
    return ""
