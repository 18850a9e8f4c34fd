"""Trains the digits classifier of this folder with TensorFlow; run by hand, no test needs TensorFlow.

    pip install tensorflow-cpu==2.21.0 keras==3.15.1 scikit-learn==1.9.1
    KERAS_BACKEND=tensorflow python tests/tensorflow/make_digits.py

digits.keras   convolutions with a skip, batch statistics, GELU and a softmax; 8,458 numbers, 0.94 right
digits.npy     what TensorFlow gives for rows 1400 to 1463 of scikit-learn's digits: float32 (64, 10)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_digits

FOLDER = Path(__file__).parent
TRAINED = 1_400


def network() -> Any:
    """A picture of 8 x 8 values from 0 to 1 -> the probability of each digit."""
    layers = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    first = layers.Conv2D(16, 3, padding="same", use_bias=False)(image)
    first = layers.Activation("relu")(layers.BatchNormalization()(first))
    second = layers.Conv2D(16, 3, padding="same", activation="relu")(first)
    both = layers.MaxPooling2D(2)(layers.Add()([first, second]))
    third = layers.Conv2D(32, 3, activation="gelu")(both)
    trunk = layers.Dropout(0.2)(layers.Flatten(name="trunk")(third))
    return keras.Model(image, layers.Dense(10, activation="softmax", name="digit")(trunk))


def main() -> None:
    """Writes both files."""
    assert keras.backend.backend() == "tensorflow"
    keras.utils.set_random_seed(7)
    found = load_digits()
    pictures = (found.images / 16).astype("float32")[..., None]
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(pictures[:TRAINED], found.target[:TRAINED], epochs=15, verbose=0)
    # Without the optimiser's own numbers, which are twice the model's.
    keras.Model(model.inputs, model.outputs).save(FOLDER / "digits.keras")
    made = model.predict(pictures[TRAINED : TRAINED + 64], verbose=0)
    np.save(FOLDER / "digits.npy", made.astype("<f4"))


if __name__ == "__main__":
    main()
