"""What a folder is that no model can be read from."""

from __future__ import annotations

from pathlib import Path

from kvspark.errors import ModelError

_SHOWN = 5
TENSORFLOW = (
    "save the Keras model as a .keras file, or convert it to ONNX with tf2onnx, and name that"
)
"""What to do with a model of TensorFlow."""


def check_says_its_model(folder: Path) -> None:
    """Does nothing if `folder` has a file that says which model it holds, as save_pretrained and save write it.

    Raises:
        ModelError: it has none; says what the folder looks like, and what to name instead.
    """
    if (folder / "config.json").exists() or (folder / "modules.json").exists():
        return
    if not folder.is_dir():
        raise ModelError(f"{folder} does not exist; expected the folder of a pretrained model")
    if (folder / "saved_model.pb").exists():
        raise ModelError(f"{folder} is a SavedModel of TensorFlow; {TENSORFLOW}")
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder} is an adapter without the model that it changes; merge them (merge_and_unload) and "
            "save_pretrained, and name that folder"
        )
    names = sorted(each.name for each in folder.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise ModelError(
        f"{folder} has no config.json and no modules.json, so nothing says which model it is (it holds "
        f"{', '.join(names[:_SHOWN]) or 'nothing'}{more}); name the folder that save_pretrained, or a bundle's "
        "save, wrote"
    )
