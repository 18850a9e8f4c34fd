"""The matrix: prompts, settings, poolings and the modules behind a network; and all variations together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.model.folder_matrix import (
    LENGTH,
    TYPES,
    WIDTH,
    Variation,
    dense,
    flags,
    module,
    sentence,
    words_tokenizer,
    write,
)
from tests.model.folder_network_variations import NETWORK_VARIATIONS

PROMPTS = {"prompts": {"query": "query : ", "document": ""}, "default_prompt_name": "query"}
WITHOUT_PROMPT = {"include_prompt": False}


POOLINGS = [
    sentence("plain", is_exported=True),
    sentence("cls", pooling=flags("cls_token"), is_exported=True),
    sentence("max", pooling=flags("max_tokens"), is_exported=True),
    sentence(
        "mean of the root of the length", pooling=flags("mean_sqrt_len_tokens"), is_exported=True
    ),
    sentence("weighted mean", pooling=flags("weightedmean_tokens"), is_exported=True),
    sentence("last token", pooling=flags("lasttoken"), is_exported=True),
    sentence(
        "three joined", pooling=flags("cls_token", "max_tokens", "mean_tokens"), is_exported=True
    ),
    sentence("no flag", pooling={"pooling_mode_cls_token": False}),
    sentence("one by name", pooling={"pooling_mode": "max"}),
    sentence("several by name", pooling={"pooling_mode": ["lasttoken", "cls"]}),
    *(
        sentence(
            f"{mode} without the prompt",
            pooling={"pooling_mode": mode, **WITHOUT_PROMPT},
            own=PROMPTS,
            is_exported=mode in ("mean", "cls"),
        )
        for mode in ("mean", "cls", "max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens")
    ),
    sentence(
        "without a prompt that is not there", pooling={"pooling_mode": "mean", **WITHOUT_PROMPT}
    ),
    sentence(
        "without a prompt, and no closing token",
        tokenizer=lambda: words_tokenizer("[CLS] $A"),
        pooling={"pooling_mode": "mean", **WITHOUT_PROMPT},
        own=PROMPTS,
    ),
    sentence("no such pooling", "pooling_mode is 'median'", pooling={"pooling_mode": "median"}),
    sentence(
        "a pooling's other key", "the key stride", pooling={"pooling_mode": "mean", "stride": 2}
    ),
]

PROMPTED = [
    sentence("default prompt", own=PROMPTS),
    sentence("a prompt by name", own=PROMPTS, arguments={"prompt_name": "document"}),
    sentence("a prompt as text", own=PROMPTS, arguments={"prompt": "a tall "}),
    sentence("no prompt in place of the default", own=PROMPTS, arguments={"prompt": ""}),
    sentence("prompts without a default", own={"prompts": {"query": "query : "}}),
    sentence("no such default", "default_prompt_name is 'doc'", own={"default_prompt_name": "doc"}),
    sentence("a prompt that is no text", "prompts is", own={"prompts": {"query": 3}}),
    sentence("truncate_dim", own={"truncate_dim": 5}, is_exported=True),
    sentence("truncate_dim as an argument", own={"truncate_dim": 5}, arguments={"truncate_dim": 7}),
    sentence("similarity", own={"similarity_fn_name": "dot", "__version__": {"pytorch": "2"}}),
    sentence("a model of its type", own={"model_type": "SentenceTransformer"}),
    sentence(
        "a sparse encoder", "model_type is 'SparseEncoder'", own={"model_type": "SparseEncoder"}
    ),
    sentence("requirements", "requirements is", own={"requirements": {"transformers": ">=99"}}),
    sentence("an unknown key", "the key scale", own={"scale": 3.0}),
]

SETTINGS = [
    sentence("lower case", settings={"max_seq_length": LENGTH, "do_lower_case": True}),
    sentence("lower case behind a prompt", settings={"do_lower_case": True}, own=PROMPTS),
    sentence("six tokens", settings={"max_seq_length": 6}),
    sentence("no limit but the tokenizer's", settings={"max_seq_length": None}),
    sentence("no settings", settings={}),
    sentence(
        "no limit but the positions",
        settings={},
        tokenizer=lambda: words_tokenizer(max_length=10**30),
        is_exported=True,
    ),
    sentence(
        "positions that are no multiple of the padding's step",
        options={"max_position_embeddings": 30},
        settings={},
        tokenizer=lambda: words_tokenizer(max_length=10**30),
        is_exported=True,
    ),
    sentence("max_length as an argument", arguments={"max_length": 5}),
    sentence(
        "settings by another name",
        settings={},
        then=lambda f: write(f / "sentence_roberta_config.json", {"max_seq_length": 7}),
    ),
    sentence(
        "the settings of release 6",
        settings={
            "max_seq_length": LENGTH,
            "transformer_task": "feature-extraction",
            "modality_config": {
                "text": {"method": "forward", "method_output_name": "last_hidden_state"}
            },
            "module_output_name": "token_embeddings",
            "unpad_inputs": False,
        },
    ),
    sentence(
        "another task",
        "transformer_task is 'fill-mask'",
        settings={"transformer_task": "fill-mask"},
    ),
    sentence(
        "chats",
        "modality_config is",
        settings={
            "modality_config": {
                "message": {"method": "forward", "method_output_name": "last_hidden_state"}
            },
            "module_output_name": "token_embeddings",
        },
    ),
    sentence("another output", "module_output_name is", settings={"module_output_name": "logits"}),
    sentence(
        "arguments of the tokenizer's call",
        "processing_kwargs is",
        settings={"processing_kwargs": {"text": {"max_length": 4}}},
    ),
    sentence("a length of queries", "query_length is 8", settings={"query_length": 8}),
    sentence(
        "arguments of the model", "model_args is", settings={"model_args": {"dtype": "float16"}}
    ),
    sentence(
        "arguments that allow code",
        settings={"model_args": {"trust_remote_code": True}, "max_seq_length": 9},
    ),
    sentence("an unknown setting", "the key stride", settings={"stride": 2}),
]


def on_tokens(path: Path) -> None:
    dense(
        path / "1_Dense",
        out=WIDTH,
        module_input_name="token_embeddings",
        activation="activation.Tanh",
    )


def two_dense(path: Path) -> None:
    dense(path / "2_Dense", activation="activation.ReLU")
    dense(path / "4_Dense", inner=8, out=3)


def layers(path: Path) -> None:
    weights = torch.tensor([0.3, 0.7])
    module(
        path / "1_WeightedLayerPooling",
        {"word_embedding_dimension": WIDTH, "layer_start": 0, "num_hidden_layers": 1},
        layer_weights=weights,
    )


def moved(path: Path) -> None:
    """The network in a folder of its own, as in the first releases."""
    inner = path / "0_Transformer"
    inner.mkdir()
    for file in path.glob("*"):
        if file.is_file() and file.name not in (
            "modules.json",
            "config_sentence_transformers.json",
        ):
            file.rename(inner / file.name)
    listed = [
        {"idx": 0, "name": "0", "path": "0_Transformer", "type": TYPES + "Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": TYPES + "Pooling"},
    ]
    write(path / "modules.json", listed)


def typed(kind: str) -> Any:
    def change(path: Path) -> None:
        listed = [
            {"idx": 0, "name": "0", "path": "", "type": TYPES + "Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": kind},
        ]
        write(path / "modules.json", listed)

    return change


MODULES = [
    sentence("normalised", modules="Pooling Normalize", is_exported=True),
    sentence("normalised, then cut", modules="Pooling Normalize", own={"truncate_dim": 4}),
    *(
        sentence(
            f"dense with {activation}",
            modules="Pooling Dense",
            is_exported=activation == "activation.Tanh",
            then=lambda f, activation=activation: dense(f / "2_Dense", activation=activation),
        )
        for activation in (
            "activation.Tanh",
            "activation.GELU",
            "activation.SiLU",
            "activation.Softplus",
            "activation.LeakyReLU",
            "activation.PReLU",
            "linear.Identity",
        )
    ),
    sentence("dense by default", modules="Pooling Dense", then=lambda f: dense(f / "2_Dense")),
    sentence(
        "dense without a bias",
        modules="Pooling Dense",
        then=lambda f: dense(f / "2_Dense", bias=False, activation="activation.ReLU"),
    ),
    sentence(
        "dense with its input added",
        modules="Pooling Dense",
        then=lambda f: dense(f / "2_Dense", out=WIDTH, use_residual=True),
    ),
    sentence(
        "dense with its input added, in another size",
        modules="Pooling Dense",
        then=lambda f: dense(f / "2_Dense", use_residual=True),
    ),
    sentence(
        "two dense, normalised between",
        modules="Pooling Dense Normalize Dense",
        is_exported=True,
        then=two_dense,
    ),
    sentence("dense on tokens", modules="Dense Pooling", then=on_tokens, is_exported=True),
    sentence(
        "normalised tokens",
        modules="Normalize Pooling",
        then=lambda f: write(
            f / "1_Normalize/config.json", {"module_input_name": "token_embeddings"}
        ),
    ),
    sentence(
        "a layer norm",
        modules="Pooling LayerNorm",
        then=lambda f: module(
            f / "2_LayerNorm",
            {"dimension": WIDTH},
            norm__weight=torch.arange(1.0, WIDTH + 1),
            norm__bias=torch.ones(WIDTH),
        ),
    ),
    sentence(
        "dropout",
        modules="Pooling Dropout",
        then=lambda f: write(f / "2_Dropout/config.json", {"dropout": 0.5}),
    ),
    sentence(
        "weighted layers",
        modules="WeightedLayerPooling Pooling",
        config={"output_hidden_states": True},
        then=layers,
        is_exported=True,
    ),
    sentence(
        "weighted layers that are not given",
        "reads all_layer_embeddings",
        modules="WeightedLayerPooling Pooling",
        then=layers,
    ),
    sentence("the network in its own folder", then=moved),
    sentence(
        "the module's full name",
        then=typed("sentence_transformers.sentence_transformer.modules.Pooling"),
    ),
    sentence(
        "another activation",
        "activation_function is 'mine.Swish'",
        modules="Pooling Dense",
        then=lambda f: dense(f / "2_Dense", activation_function="mine.Swish"),
    ),
    sentence(
        "an activation with arguments",
        "activation_function is 'torch.nn.modules.activation.Threshold'",
        modules="Pooling Dense",
        then=lambda f: dense(f / "2_Dense", activation="activation.Threshold"),
    ),
    sentence(
        "a value that nothing gives",
        "reads pooled, which nothing before it gives",
        modules="Pooling Dense",
        then=lambda f: dense(f / "2_Dense", module_input_name="pooled"),
    ),
    sentence("nothing pooled", "no module gives sentence_embedding", modules=""),
    sentence("code of its own", "type 'mine.Pooling' is code", then=typed("mine.Pooling")),
    *(
        sentence(f"a {kind}", f"a {kind} module is not applied", then=typed(TYPES + kind))
        for kind in ("CNN", "LSTM", "BoW", "WordWeights", "Router")
    ),
]

VARIATIONS: list[Variation] = [
    *POOLINGS,
    *PROMPTED,
    *SETTINGS,
    *MODULES,
    *NETWORK_VARIATIONS,
]
