"""The demo's models as kvspark takes them: one trunk, and a bundle for each head on top of it."""

from __future__ import annotations

from pathlib import Path
from typing import final

from kvspark.demo.classifier import MAX_LENGTH, Classifier, Head, Trunk, encoder_folder
from kvspark.infer.model import Model
from kvspark.model.features.text import TextFeatures

CUT = "trunk"
"""The module path where the classifier is cut in two."""


@final
class Models:
    """Makes bundles that share a trunk: its stage has one fingerprint in all of them."""

    def __init__(self, trunk: Trunk) -> None:
        self._trunk = trunk
        self.features = TextFeatures.from_pretrained(encoder_folder(), max_length=MAX_LENGTH)
        self.trunk = Model.from_torch(trunk, features=self.features, name=CUT)
        """Text in, vector out: for training."""

    def with_head(self, head: Head, *, name: str) -> Model:
        """Text in, class and probability out, in the stages `features`, `trunk` and `head`."""
        whole = Classifier(self._trunk, head).eval()
        return Model.from_torch(whole, features=self.features, cuts=[CUT], name=name)

    def save_with_head(self, head: Head, folder: Path) -> Path:
        """The folder, with the bundle of this head in it."""
        self.with_head(head, name=folder.name).save(folder)
        return folder
