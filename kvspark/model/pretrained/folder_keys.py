"""What becomes of each key and each file of a pretrained folder: applied, harmless, or refused.

The files of sentence-transformers are listed key by key, and a key that is not listed is refused.
config.json, tokenizer_config.json and what else transformers reads is another matter: transformers itself
builds the network and the tokenizer from them, so a key that is not listed is either read by its code, as
it is in the library, or by nobody. Listed there is what says more than network and tokenizer show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, final

Fate = Literal["applied", "harmless", "refused"]

OFF: Final[tuple[object, ...]] = (None, False, 0, "", [], {}, ())
"""Values that set nothing."""


@final
@dataclass(frozen=True, slots=True)
class Key:
    """What becomes of a key, why, and of which values only; any other value is refused, with `advice`."""

    fate: Fate
    why: str = ""
    only: tuple[object, ...] | None = None
    advice: str = ""


def _applied(names: str) -> dict[str, Key]:
    return {name: Key("applied") for name in names.split()}


def _harmless(names: str, why: str) -> dict[str, Key]:
    return {name: Key("harmless", why) for name in names.split()}


def _unless(names: str, values: Iterable[object], advice: str) -> dict[str, Key]:
    return {name: Key("harmless", "sets nothing", tuple(values), advice) for name in names.split()}


_NO_CODE = (
    "its code is never run from a model folder; build the module yourself and use Model.from_torch"
)
_BY_HAND = "build the module yourself and use Model.from_torch"

MODULES: Mapping[str, Key] = {
    **_applied("path type"),
    **_harmless("idx name", "modules run in the order of the file"),
    **_unless("kwargs", OFF, f"encode has no such arguments here; {_BY_HAND}"),
}
"""An item of modules.json."""

SENTENCE: Mapping[str, Key] = {
    **_applied("prompts default_prompt_name truncate_dim"),
    **_harmless("__version__", "says what the folder was saved with"),
    **_harmless("similarity_fn_name", "says how two embeddings are compared"),
    **_unless(
        "model_type", (None, "SentenceTransformer"), "only a SentenceTransformer gives an embedding"
    ),
    **_unless("requirements", OFF, "check the versions yourself, and take the key out"),
}
"""config_sentence_transformers.json."""

_CALLED = (
    "what the processor is called with is not read from a folder; save a tokenizer that does it"
)
_LOADED = "save the model and the tokenizer as these arguments make them, and take the key out"

SETTINGS: Mapping[str, Key] = {
    **_applied("max_seq_length do_lower_case"),
    **_unless("transformer_task", ("feature-extraction",), "only the encoder's own output is read"),
    **_unless(
        "modality_config",
        (None, {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}),
        "only plain texts and the network's last hidden state are read",
    ),
    **_unless("module_output_name", (None, "token_embeddings"), "pool the tokens' embeddings"),
    **_harmless("unpad_inputs", "says how rows share a call; here each has its result alone"),
    **_unless("processing_kwargs", OFF, _CALLED),
    **_unless("query_length document_length query_expansion", OFF, "cut texts with max_length"),
    **_unless("tokenizer_name_or_path", OFF, "save the tokenizer in the folder"),
    **_unless(
        "model_args model_kwargs tokenizer_args processor_kwargs config_args config_kwargs",
        (*OFF, {"trust_remote_code": True}, {"trust_remote_code": False}),
        _LOADED,
    ),
}
"""sentence_bert_config.json, and what it was called for other families."""

SETTINGS_FILES: Final = tuple(
    f"sentence_{family}_config.json"
    for family in "bert roberta distilbert camembert albert xlm-roberta xlnet".split()
)
"""The first of them that says anything counts."""

POOLING: Mapping[str, Key] = {
    **_applied("pooling_mode include_prompt"),
    **_applied("pooling_mode_cls_token pooling_mode_max_tokens pooling_mode_mean_tokens"),
    **_applied("pooling_mode_mean_sqrt_len_tokens pooling_mode_weightedmean_tokens"),
    **_applied("pooling_mode_lasttoken"),
    **_harmless("word_embedding_dimension embedding_dimension", "the network gives it"),
}

DENSE: Mapping[str, Key] = _applied(
    "in_features out_features bias activation_function module_input_name module_output_name use_residual"
)
NORMALIZE: Mapping[str, Key] = _applied("module_input_name module_output_name")
LAYER_NORM: Mapping[str, Key] = _applied("dimension")
DROPOUT: Mapping[str, Key] = _harmless("dropout", "is off outside training")
LAYER_POOLING: Mapping[str, Key] = {
    **_applied("layer_start num_hidden_layers"),
    **_harmless("word_embedding_dimension embedding_dimension", "the network gives it"),
}

_PAIRS = "a CrossEncoder scores pairs of texts; build a module of it and use Model.from_torch"

CONFIG: Mapping[str, Key] = {
    **_unless("auto_map", OFF, f"{_NO_CODE}, or take the key out if transformers has the model"),
    **_unless("quantization_config", OFF, "save the model with weights of float32 or half of it"),
    **_unless("compression_config sparsity_config", OFF, "save the model with plain weights"),
    **_unless("adapters", OFF, "merge the adapter and save the whole model"),
    **_unless("pruned_heads", OFF, "transformers 5 prunes no heads"),
    **_unless("sentence_transformers sbert_ce_default_activation_function", OFF, _PAIRS),
    **_unless("function_to_apply", OFF, "logits, label and score are what problem_type says"),
}
"""config.json; position_embedding_type and the rest that depends on the family: kvspark.model.pretrained.folder."""

TOKENIZER_CONFIG: Mapping[str, Key] = {
    **_unless("auto_map", OFF, f"{_NO_CODE}, with TextFeatures of a tokenizer.json"),
    **_unless("sp_model_kwargs", OFF, "a tokenizer that samples gives no two texts equal tokens"),
}

REFUSED_FILES: Mapping[str, str] = {
    "adapter_config.json": "merge the adapter with peft's merge_and_unload() and save the whole model",
    "adapter_model.*": "merge the adapter with peft's merge_and_unload() and save the whole model",
    "quantize_config.json": "save the model with weights of float32 or half of it",
    "config_setfit.json": "its labels come from another head; build a module and use Model.from_torch",
    "processor_config.json": "only plain texts and pictures are read; save the tokenizer alone",
    "video_preprocessor_config.json": "only plain texts and pictures are read",
    "router_config.json": "build a model of each route",
}
"""Files of a folder that say more than what is read."""

KNOWN_FILES: Final = (
    # Read by kvspark, transformers or tokenizers.
    "config.json modules.json config_sentence_transformers.json sentence_*_config.json "
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.json "
    "preprocessor_config.json model.safetensors model-*.safetensors model.safetensors.index.json"
    # How text is generated, and how chats become text: no row here is either.
    " generation_config.json chat_template.json"
    # What training left behind.
    " data_config.json trainer_state.json trainer_config.json training_args.json *_results.json"
    " *results*.json *metrics*.json training_config.json model_card.json modelcard.json"
    # The weights of other formats and their indexes.
    " *.index.json *.bin.index.json"
).split()
"""The .json and .safetensors files that may lie in a folder; others there are refused.

Files with other endings and folders that no module names are read by neither library.
"""
