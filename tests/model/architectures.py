"""The table of architectures: small models with random weights, and what is known of each.

An exact row gives the bits of the eager model when it is exported, and of the whole model at every
cut. A bounded one differs from eager by at most `bound`, because eager torch runs another operator,
`culprit`; exported and cut it is exact all the same. A refused one says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.model import torch_modules as plain

Inputs = dict[str, torch.Tensor]
TOKENS = ("input_ids", "attention_mask")


@dataclass(frozen=True)
class Architecture:
    """A model, three rows of its inputs, and what is known of it."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    variable_length: Sequence[str] = ()
    bound: float = 0.0
    culprit: str = ""
    refused: str = ""
    """A pattern of the refusal."""


class TextAndImage(nn.Module):
    """The score of pairs: CLIP itself gives a matrix of all texts by all images."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Any = _clip()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, pixel_values: torch.Tensor
    ) -> torch.Tensor:
        text = self.model.text_projection(
            self.model.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        )
        image = self.model.visual_projection(self.model.vision_model(pixel_values).pooler_output)
        return nn.functional.cosine_similarity(text, image)


def tokens() -> Inputs:
    ids = torch.tensor([[5, 6, 7, 8, 9, 4], [9, 8, 7, 1, 1, 1], [5, 5, 6, 4, 1, 1]])
    return {"input_ids": ids, "attention_mask": (ids != 1).long()}


def normal(**shapes: tuple[int, ...]) -> Inputs:
    generator = torch.Generator().manual_seed(4)
    return {name: torch.randn(3, *shape, generator=generator) for name, shape in shapes.items()}


def _hub(model: str, config: str, **settings: Any) -> nn.Module:
    """The class `model` of transformers as it is, with random weights."""
    import transformers

    return getattr(transformers, model)(getattr(transformers, f"{config}Config")(**settings))


def _text(config: str, task: str = "ForSequenceClassification", **settings: Any) -> Architecture:
    settings = {"vocab_size": 40, "pad_token_id": 1, **settings}
    return Architecture(lambda: _hub(config + task, config, **settings), tokens, TOKENS)


def _image(
    config: str, size: int = 32, task: str = "ForImageClassification", **settings: Any
) -> Architecture:
    return Architecture(
        lambda: _hub(config + task, config, **settings),
        lambda: normal(pixel_values=(3, size, size)),
    )


def _row(make: Callable[[], nn.Module], **shapes: tuple[int, ...]) -> Architecture:
    return Architecture(make, lambda: normal(**shapes))


def _refused(kind: str, reason: str) -> Architecture:
    return Architecture(lambda: plain.Trouble(kind), lambda: normal(x=(6,)), refused=reason)


_PATCHES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
_SMALL: dict[str, Any] = {**_PATCHES, "max_position_embeddings": 64}
_ONE: dict[str, Any] = {**_SMALL, "num_hidden_layers": 1}
_DECODER: dict[str, Any] = {**_ONE, "num_key_value_heads": 1}


def _clip() -> nn.Module:
    text = {**_ONE, "vocab_size": 40, "eos_token_id": 4}
    vision = {**_PATCHES, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8}
    return _hub("CLIPModel", "CLIP", text_config=text, vision_config=vision)


def _whisper() -> nn.Module:
    special = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2}
    encoder = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "max_source_positions": 20}
    sizes = {"vocab_size": 40, "d_model": 16, "num_mel_bins": 8}
    whisper: Any = _hub("WhisperModel", "Whisper", **special, **encoder, **decoder, **sizes)
    return whisper.encoder


def _pictures_and_words() -> Inputs:
    return {**tokens(), **normal(pixel_values=(3, 16, 16))}


PLAIN: dict[str, Architecture] = {
    "mlp": _row(lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)), input=(8,)),
    "residual-cnn": _row(plain.ResidualCnn, image=(3, 12, 12)),
    "depthwise-cnn": _row(plain.DepthwiseCnn, image=(3, 10, 10)),
    "lstm": _row(lambda: plain.Recurrent("lstm"), series=(7, 6)),
    "gru": _row(lambda: plain.Recurrent("gru"), series=(7, 6)),
    "u-net": _row(plain.UNet, image=(1, 8, 8)),
    "dlrm": Architecture(
        plain.Dlrm,
        lambda: {**normal(dense=(5,)), "categories": torch.arange(9).reshape(3, 3)},
    ),
    "graph-layer": Architecture(
        plain.GraphLayer,
        lambda: {**normal(nodes=(5, 4)), "adjacency": torch.eye(5).repeat(3, 1, 1)},
    ),
    "mixture-of-experts": _row(plain.Experts, x=(6,)),
    "attention-pool": _row(plain.AttentionPool, tokens=(5, 8)),
    "tabular": Architecture(
        plain.Tabular,
        lambda: {
            **normal(numbers=(3,)),
            "shop": torch.tensor([1, 2, 3]),
            "is_new": torch.tensor([True, False, True]),
        },
    ),
    "complex-rotary": Architecture(plain.Rotary, lambda: normal(tokens=(5, 8)), ("tokens",)),
    "no-grad-and-autocast": _row(plain.Regions, x=(6,)),
    "autocast-off": _row(plain.Disabled, x=(6,)),
    "tied-and-parametrised": Architecture(plain.Tied, lambda: {"ids": tokens()["input_ids"]}),
    "positional-and-nested": _row(plain.Positional, left=(6,), right=(6,)),
    "torch-encoder": Architecture(
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
        lambda: normal(src=(5, 8)),
        bound=1e-5,
        culprit="aten._transformer_encoder_layer_fwd",
    ),
}

PRETRAINED: dict[str, Architecture] = {
    "bert": _text("Bert", **_SMALL),
    "bert-all-layers": _text("Bert", "Model", output_hidden_states=True, **_ONE),
    "distilbert": _text("DistilBert", dim=16, n_layers=1, n_heads=2, hidden_dim=24),
    "roberta": _text("Roberta", **_ONE),
    "mpnet": _text("MPNet", **_ONE),
    "electra": _text("Electra", embedding_size=8, **_ONE),
    "albert": _text("Albert", embedding_size=8, **_SMALL),
    "deberta": _text("DebertaV2", relative_attention=True, pos_att_type=["p2c", "c2p"], **_ONE),
    "modernbert": _text("ModernBert", local_attention=4, **_ONE),
    "bert-tokens": _text("Bert", "ForTokenClassification", **_ONE),
    "llama": _text("Llama", **_DECODER),
    "gpt2-language-model": _text(
        "GPT2", "LMHeadModel", n_embd=16, n_layer=1, n_head=2, n_positions=32
    ),
    "t5-encoder": _text(
        "T5", "EncoderModel", d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2
    ),
    "vit": _image("ViT", 16, image_size=16, patch_size=8, **_PATCHES),
    "convnext": _image("ConvNext", hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1]),
    "resnet": _image("ResNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
    "efficientnet": _image(
        "EfficientNet",
        image_size=32,
        hidden_dim=320,
        width_coefficient=0.25,
        depth_coefficient=0.1,
        kernel_sizes=[3, 3, 5],
        in_channels=[32, 16, 24],
        out_channels=[16, 24, 64],
        depthwise_padding=[],
        strides=[1, 2, 2],
        num_block_repeats=[1, 2, 2],
        expand_ratios=[1, 6, 6],
    ),
    "swin": _image(
        "Swin",
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[1, 2],
        num_heads=[2, 2],
        window_size=4,
    ),
    "wav2vec2": Architecture(
        lambda: _hub(
            "Wav2Vec2Model",
            "Wav2Vec2",
            conv_dim=(8, 8),
            conv_stride=(4, 2),
            conv_kernel=(8, 4),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
            **_PATCHES,
        ),
        lambda: normal(input_values=(160,)),
    ),
    "whisper-encoder": _row(_whisper, input_features=(8, 40)),
    "perceiver": _row(
        lambda: _hub(
            "PerceiverModel",
            "Perceiver",
            num_latents=4,
            d_latents=16,
            d_model=12,
            num_blocks=1,
            num_self_attends_per_block=2,
            num_self_attention_heads=2,
            num_cross_attention_heads=2,
        ),
        inputs=(5, 12),
    ),
    "clip-pairs": Architecture(TextAndImage, _pictures_and_words, TOKENS),
}

REFUSED: dict[str, Architecture] = {
    "batch-statistics": _refused("statistics", r"aten.batch_norm.default at norm mixes rows"),
    "batch-softmax": _refused("softmax", r"aten.softmax.int at the top of the model mixes rows"),
    "time-first": _refused("time_first", r"aten.conv1d.default at sequence mixes rows"),
    "pairs-of-rows": _refused("pairs", r"grows with the number of rows, so operator aten"),
    "rows-that-fit": _refused(
        "selection", r"aten.index.Tensor at the top .* size depends on values"
    ),
    "counting-calls": _refused("counter", r"buffer 'calls' is changed by every call"),
    "noise": _refused("noise", r"aten.randn.default at the top of the model draws random numbers"),
    "dropout-always": _refused("dropout", r"aten.dropout.default at the top .* draws random"),
    "branch-on-values": _refused(
        "branch", r"Trouble at the top of the model \(torch_modules.py, line"
    ),
    "two-graphs": _refused("branches", r"operator cond at the top of the model cannot be part"),
    "fixed-rows": _refused("rows", r"works with 3 rows of input 'x' only"),
    "numpy": _refused("array", r"cannot capture Trouble .* \.numpy\(\) is not supported"),
    "wrong-examples": _refused(
        "fails", r"Trouble fails on the example inputs at the top .* shapes"
    ),
    "recurrent-states": Architecture(
        plain.States,
        lambda: normal(series=(7, 6)),
        refused=r"'output_1_0' .* first dimension is not the batch",
    ),
    "clip-matrix": Architecture(
        _clip,
        _pictures_and_words,
        TOKENS,
        refused=r"'logits_per_image' .* grows with the number of rows",
    ),
    "mixtral": Architecture(
        lambda: _hub("MixtralModel", "Mixtral", vocab_size=40, num_local_experts=3, **_DECODER),
        tokens,
        TOKENS,
        refused=r"operator transformers.grouped_mm_fallback.default at layers.0.mlp.experts cannot",
    ),
    "mamba-of-any-length": Architecture(
        lambda: _hub(
            "MambaModel", "Mamba", vocab_size=40, hidden_size=16, num_hidden_layers=1, state_size=4
        ),
        lambda: {"input_ids": tokens()["input_ids"]},
        ("input_ids",),
        refused=r"MambaModel takes any size, but torch.export writes a length of 6 of input 'input_ids'",
    ),
}

ARCHITECTURES = {**PLAIN, **PRETRAINED}
