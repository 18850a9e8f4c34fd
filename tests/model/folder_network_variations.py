"""The matrix: tokenizers, networks, and classifiers of transformers."""

from __future__ import annotations

from tests.model.folder_matrix import (
    LENGTH,
    POSITIONS,
    Variation,
    added_tokens,
    classifier,
    flags,
    sentence,
    tokenizer_json,
    update,
    words_tokenizer,
    write,
)

TOKENIZERS = [
    sentence(
        "cut at the left",
        tokenizer=lambda: words_tokenizer(truncation_side="left"),
        is_exported=True,
    ),
    sentence(
        "padded at the left",
        tokenizer=lambda: words_tokenizer(padding_side="left"),
        is_exported=True,
    ),
    sentence(
        "cut and padded in tokenizer.json",
        then=lambda f: tokenizer_json(
            f,
            truncation={
                "direction": "Left",
                "max_length": 5,
                "strategy": "LongestFirst",
                "stride": 0,
            },
            padding={
                "strategy": {"Fixed": 20},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            },
        ),
    ),
    sentence(
        "special tokens read as text", tokenizer=lambda: words_tokenizer(split_special_tokens=True)
    ),
    sentence("added tokens", tokenizer=added_tokens, options={"vocab_size": 140}),
    sentence(
        "a closing token only",
        tokenizer=lambda: words_tokenizer("$A [SEP]"),
        pooling=flags("lasttoken"),
    ),
    sentence("no special tokens", tokenizer=lambda: words_tokenizer(None), without=("empty",)),
    sentence(
        "types of tokens",
        tokenizer=lambda: words_tokenizer(
            "[CLS] $A:1 [SEP]:1",
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        ),
        is_exported=True,
    ),
    sentence(
        "types that the network is not given",
        tokenizer=lambda: words_tokenizer("[CLS] $A:1 [SEP]:1"),
    ),
    sentence("a chat template", tokenizer=lambda: words_tokenizer(chat_template="{{ messages }}")),
    sentence(
        "lower case in tokenizer_config.json",
        then=lambda f: update(f / "tokenizer_config.json", do_lower_case=True),
    ),
    sentence(
        "a tokenizer's own code",
        "tokenizer_config.json: auto_map is",
        then=lambda f: update(
            f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.T", None]}
        ),
    ),
]

NETWORKS = [
    *(
        sentence(f"{kind}", kind=kind, is_exported=kind in ("Roberta", "T5", "ModernBert"))
        for kind in (
            "Roberta",
            "XLMRoberta",
            "DistilBert",
            "MPNet",
            "Albert",
            "Electra",
            "T5",
            "ModernBert",
        )
    ),
    sentence(
        "RoBERTa's positions begin behind its padding",
        kind="Roberta",
        options={"max_position_embeddings": LENGTH + 1},
        settings={"max_seq_length": LENGTH},
        arguments={"max_length": LENGTH - 1},
    ),
    *(
        sentence(
            f"{kind}, last token, padded at the left",
            kind=kind,
            tokenizer=lambda: words_tokenizer("$A [SEP]", padding_side="left"),
            pooling=flags("lasttoken"),
            is_exported=kind in ("Qwen3", "GPT2"),
        )
        for kind in ("Llama", "Qwen2", "Qwen3", "Mistral", "GPT2")
    ),
    sentence("tuples", config={"return_dict": False}),
    sentence(
        "a causal BERT", config={"is_decoder": True}, pooling=flags("lasttoken"), is_exported=True
    ),
    sentence("half precision", config={"dtype": "bfloat16"}, atol=3e-2),
    sentence("a key that no code reads", config={"gradient_checkpointing": False, "my_run": "7"}),
    sentence(
        "how to generate", then=lambda f: write(f / "generation_config.json", {"do_sample": True})
    ),
    sentence("other formats beside", then=lambda f: write(f / "onnx/model.json", {"x": 1})),
    sentence(
        "code of its own in config.json",
        "auto_map is",
        config={"auto_map": {"AutoModel": "mine.Mine"}},
    ),
    sentence(
        "quantised",
        "quantization_config is",
        config={"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
    ),
    sentence(
        "relative positions",
        "position_embedding_type is",
        config={"position_embedding_type": "relative_key"},
    ),
    sentence("heads taken out", "pruned_heads is", config={"pruned_heads": {"0": [1]}}),
    sentence(
        "an adapter",
        "adapter_config.json",
        then=lambda f: write(f / "adapter_config.json", {"r": 8}),
    ),
    sentence(
        "an unknown file", "the file pipeline.json", then=lambda f: write(f / "pipeline.json", {})
    ),
]

CLASSIFIERS = [
    classifier("a classifier"),
    classifier("several labels", problem_type="multi_label_classification"),
    classifier("a regression", problem_type="regression", num_labels=1),
    classifier(
        "a classifier, cut at the left", tokenizer=lambda: words_tokenizer(truncation_side="left")
    ),
    classifier(
        "a classifier, padded at the left", tokenizer=lambda: words_tokenizer(padding_side="left")
    ),
    classifier(
        "a classifier that splits special tokens",
        tokenizer=lambda: words_tokenizer(split_special_tokens=True),
    ),
    classifier(
        "a classifier with types",
        tokenizer=lambda: words_tokenizer(
            "[CLS] $A:1 [SEP]:1",
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        ),
    ),
    classifier("a classifier of tuples", config={"return_dict": False}),
    classifier("a RoBERTa", kind="Roberta"),
    classifier(
        "a GPT-2 that is padded at the left",
        kind="GPT2",
        tokenizer=lambda: words_tokenizer("$A [SEP]", padding_side="left"),
    ),
    classifier("a classifier of tokens", head="ForTokenClassification"),
    classifier(
        "no limit but a classifier's positions",
        tokenizer=lambda: words_tokenizer(max_length=10**30),
        arguments={"max_length": POSITIONS},
    ),
    classifier(
        "a cross-encoder",
        "sentence_transformers is",
        config={"sentence_transformers": {"version": "5"}},
    ),
    classifier(
        "a function on the logits", "function_to_apply is", config={"function_to_apply": "none"}
    ),
    classifier(
        "a quantised classifier",
        "quantization_config is",
        config={"quantization_config": {"quant_method": "gptq", "bits": 4}},
    ),
    classifier(
        "a prompt for a classifier",
        "a prompt is for a folder of sentence-transformers",
        arguments={"prompt": "query : "},
    ),
]

NETWORK_VARIATIONS: list[Variation] = [*TOKENIZERS, *NETWORKS, *CLASSIFIERS]
