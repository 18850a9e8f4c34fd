"""Small random-weight models of many architectures: what `test_architectures` exports and cuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Architecture:
    """A model, two rows or more of its inputs, and what is known of it."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    variable_length: Sequence[str] = ()


class ResidualCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        x = torch.relu(self.block(x) + x)
        return self.head(x.mean(dim=(2, 3)))


class DepthwiseCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.SiLU())
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 12, 1), nn.Sigmoid())
        self.head = nn.Linear(12, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.expand(image))
        x = x * self.squeeze(x)
        return self.head(x.flatten(2).amax(dim=2))


class Recurrent(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        cell = nn.LSTM if kind == "lstm" else nn.GRU
        self.recurrent = cell(6, 12, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(series)[0][:, -1])


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 6, 3, 2, 1)
        self.middle = nn.Conv2d(6, 6, 3, 1, 1)
        self.up = nn.ConvTranspose2d(6, 6, 2, 2)
        self.out = nn.Conv2d(7, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        low = torch.relu(self.down(image))
        high = self.up(torch.relu(self.middle(low)) + low)
        return self.out(torch.cat([image, high], dim=1))


class Dlrm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(30, 8) for _ in range(3))
        self.bottom = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(14, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, dense: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        base = self.bottom(dense)
        parts = [base, *(table(categories[:, i]) for i, table in enumerate(self.tables))]
        stacked = torch.stack(parts, dim=1)
        products = stacked @ stacked.transpose(1, 2)
        rows, columns = torch.tril_indices(4, 4, offset=-1)
        return self.top(torch.cat([base, products[:, rows, columns]], dim=1))


class GraphLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.message = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, nodes: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        degree = adjacency.sum(-1, keepdim=True).clamp(min=1)
        hidden = torch.relu((adjacency @ self.message(nodes)) / degree)
        return self.head(hidden.sum(1))


class Experts(nn.Module):
    """A mixture of experts in which every expert sees every row and a gate weighs them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, places = self.gate(x).softmax(-1).topk(2)
        weights = torch.zeros(x.size(0), 3).scatter(1, places, values)
        mixed = torch.stack([expert(x) for expert in self.experts], dim=1)
        return self.head((weights.unsqueeze(-1) * mixed).sum(1))


class AttentionPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(3, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(24, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        queries = self.latents.expand(tokens.size(0), -1, -1)
        return self.head(self.attention(queries, tokens, tokens, need_weights=False)[0].flatten(1))


class Tabular(nn.Module):
    """Several inputs, several outputs, int and bool among them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 4)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU())
        self.price = nn.Linear(8, 1)
        self.kind = nn.Linear(8, 3)

    def forward(
        self, numbers: torch.Tensor, shop: torch.Tensor, is_new: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        body = self.body(torch.cat([numbers, self.embed(shop), is_new.float().unsqueeze(1)], dim=1))
        return {"price": self.price(body).squeeze(1), "kind": self.kind(body).argmax(-1)}


class TextModel(nn.Module):
    def __init__(self, model: nn.Module, output: str = "logits") -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return getattr(self.model(input_ids=input_ids, attention_mask=attention_mask), self.output)


class PixelModel(nn.Module):
    def __init__(self, model: nn.Module, output: str = "logits") -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return getattr(self.model(pixel_values=pixel_values), self.output)


class Clip(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pixel_values: torch.Tensor
    ) -> torch.Tensor:
        text = self.model.text_projection(
            self.model.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        )
        image = self.model.visual_projection(self.model.vision_model(pixel_values).pooler_output)
        return nn.functional.cosine_similarity(text, image)


class SpeechModel(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        return self.model(input_features).last_hidden_state.mean(1)


def _tokens() -> Inputs:
    ids = torch.tensor([[5, 6, 7, 8, 9, 4], [9, 8, 7, 1, 1, 1], [5, 5, 6, 4, 1, 1]])
    return {"input_ids": ids, "attention_mask": (ids != 1).long()}


def _normal(**shapes: tuple[int, ...]) -> Inputs:
    generator = torch.Generator().manual_seed(4)
    return {name: torch.randn(3, *shape, generator=generator) for name, shape in shapes.items()}


def _text(kind: str, task: str = "SequenceClassification", **config: Any) -> Architecture:
    def make() -> nn.Module:
        import transformers

        settings = getattr(transformers, f"{kind}Config")(vocab_size=40, **config)
        return TextModel(getattr(transformers, f"{kind}For{task}")(settings))

    return Architecture(make, _tokens, ("input_ids", "attention_mask"))


def _made(kind: str, wrap: Callable[[Any], nn.Module], **config: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import transformers

        settings = getattr(transformers, f"{kind}Config")(**config)
        model = {"ViT": "ViTForImageClassification", "ConvNext": "ConvNextForImageClassification"}
        return wrap(getattr(transformers, model.get(kind, f"{kind}Model"))(settings))

    return make


_SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
_PATCHES = {name: value for name, value in _SMALL.items() if name != "max_position_embeddings"}
_LLAMA = {**_SMALL, "num_key_value_heads": 1, "pad_token_id": 1}


def _t5() -> nn.Module:
    import transformers

    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2
    )
    return TextModel(transformers.T5EncoderModel(config), "last_hidden_state")


def _clip() -> nn.Module:
    import transformers

    text = {**_SMALL, "vocab_size": 40, "eos_token_id": 4}
    vision = {**_SMALL, "image_size": 16, "patch_size": 8}
    return Clip(
        transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision))
    )


def _whisper() -> nn.Module:
    import transformers

    config = transformers.WhisperConfig(
        vocab_size=40,
        d_model=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=24,
        num_mel_bins=8,
        max_source_positions=20,
        decoder_layers=1,
        decoder_attention_heads=2,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=2,
    )
    return SpeechModel(transformers.WhisperModel(config).encoder)


ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(
        lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)),
        lambda: _normal(input=(8,)),
    ),
    "residual-cnn": Architecture(ResidualCnn, lambda: _normal(image=(3, 12, 12))),
    "depthwise-cnn": Architecture(DepthwiseCnn, lambda: _normal(image=(3, 10, 10))),
    "lstm": Architecture(lambda: Recurrent("lstm"), lambda: _normal(series=(7, 6))),
    "gru": Architecture(lambda: Recurrent("gru"), lambda: _normal(series=(7, 6))),
    "u-net": Architecture(UNet, lambda: _normal(image=(1, 8, 8))),
    "dlrm": Architecture(
        Dlrm,
        lambda: {
            **_normal(dense=(5,)),
            "categories": torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        },
    ),
    "graph-layer": Architecture(
        GraphLayer,
        lambda: {**_normal(nodes=(5, 4)), "adjacency": (torch.eye(5).expand(3, 5, 5) + 0).clone()},
    ),
    "mixture-of-experts": Architecture(Experts, lambda: _normal(x=(6,))),
    "attention-pool": Architecture(AttentionPool, lambda: _normal(tokens=(5, 8))),
    "tabular": Architecture(
        Tabular,
        lambda: {
            **_normal(numbers=(3,)),
            "shop": torch.tensor([1, 2, 3]),
            "is_new": torch.tensor([True, False, True]),
        },
    ),
    "bert": _text("Bert", **_SMALL),
    "distilbert": _text("DistilBert", dim=16, n_layers=2, n_heads=2, hidden_dim=24),
    "roberta": _text("Roberta", pad_token_id=1, **_SMALL),
    "mpnet": _text("MPNet", pad_token_id=1, **_SMALL),
    "electra": _text("Electra", embedding_size=8, **_SMALL),
    "albert": _text("Albert", embedding_size=8, **_SMALL),
    "bert-tokens": _text("Bert", "TokenClassification", **_SMALL),
    "llama-rope": _text("Llama", **_LLAMA),
    "t5-encoder": Architecture(_t5, _tokens, ("input_ids", "attention_mask")),
    "vit": Architecture(
        _made("ViT", PixelModel, image_size=16, patch_size=8, **_PATCHES),
        lambda: _normal(pixel_values=(3, 16, 16)),
    ),
    "convnext": Architecture(
        _made("ConvNext", PixelModel, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1]),
        lambda: _normal(pixel_values=(3, 32, 32)),
    ),
    "clip": Architecture(
        _clip,
        lambda: {**_tokens(), **_normal(pixel_values=(3, 16, 16))},
        ("input_ids", "attention_mask"),
    ),
    "whisper-encoder": Architecture(_whisper, lambda: _normal(input_features=(8, 40))),
}
