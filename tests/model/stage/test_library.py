"""Builds of libraries: what a fingerprint says of the code that a stage calls."""

from __future__ import annotations

import pytest
import soundfile
import tokenizers
import torch
from PIL import features

from kvspark.errors import ModelError
from kvspark.model.stage.library import build_of
from tests.faults.matrix import covers


def test_a_library_without_decoders_is_its_name_and_version() -> None:
    """As fingerprints have always had it: those of text and graph stages hold."""
    # PyPI's wheel says in its code alone for which CUDA it was built: 2.13.0 and 2.13.0+cu130.
    built_as = torch.__version__
    assert build_of("torch") in (f"torch {built_as}", f"torch {built_as.partition('+')[0]}")
    assert build_of("tokenizers") == f"tokenizers {tokenizers.__version__}"


@covers("F45")
def test_the_versions_of_decoders_are_part_of_a_build() -> None:
    assert f"libjpeg_turbo {features.version('libjpeg_turbo')}" in build_of("pillow")
    assert f"libsndfile {soundfile.__libsndfile_version__}" in build_of("soundfile")


def test_a_library_that_is_missing_is_an_error_that_says_so() -> None:
    with pytest.raises(ModelError, match="computes with no-such-library, which is not installed"):
        build_of("no-such-library")
