"""What scores in one process with two threads, from Parquet to Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.beside.plain import TEXT_BATCH, predictor, text_head
from tests.bench.beside.workload import (
    CORES,
    Night,
    Workload,
    inputs_of,
    outputs_array,
    table_path,
)

if TYPE_CHECKING:
    from tests.bench.beside.on_spark import Score

DATASETS_BATCH = 1_000
"""What `Dataset.map` takes by default."""


@contextmanager
def sentence_transformers(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """`SentenceTransformer.encode` of the whole table, which sorts it by length."""

    def score(night: Night, target: Path) -> None:
        table = pq.read_table(table_path(folder, night))
        made = predictor(str(folder), night.head, CORES)(inputs_of(work, table))
        _write(table, outputs_array(made), target)

    yield score


@contextmanager
def langchain_and_redis(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """LangChain's `CacheBackedEmbeddings` over sentence-transformers and a Redis of its own."""
    import torch
    from langchain_classic.embeddings import CacheBackedEmbeddings
    from langchain_community.storage import RedisStore
    from langchain_huggingface import HuggingFaceEmbeddings

    from kvspark.demo.classifier import encoder_folder
    from tests.redis_server import running_redis

    torch.set_num_threads(CORES)
    encoder = HuggingFaceEmbeddings(
        model_name=str(encoder_folder()),
        model_kwargs={"device": "cpu"},
        encode_kwargs={"batch_size": TEXT_BATCH},
    )
    heads = {head: text_head(folder, head) for head in work.heads}
    with running_redis() as server:
        # The namespace is the user's to choose: it names the encoder alone, so that a new head finds all.
        embeddings = CacheBackedEmbeddings.from_bytes_store(
            encoder, RedisStore(redis_url=server.url), namespace="minilm", key_encoder="blake2b"
        )

        def score(night: Night, target: Path) -> None:
            table = pq.read_table(table_path(folder, night))
            vectors = embeddings.embed_documents(table["text"].to_pylist())
            made = heads[night.head](np.array(vectors, dtype=np.float32))
            _write(table, outputs_array(made), target)

        yield score


@contextmanager
def datasets_map(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """Hugging Face `Dataset.map` in batches of 1,000; its fingerprint is the table's and the model's."""
    import datasets

    datasets.disable_progress_bars()

    def score(night: Night, target: Path) -> None:
        predict = predictor(str(folder), night.head, CORES)

        def scored(batch: pa.Table) -> pa.Table:
            outputs = outputs_array(predict(inputs_of(work, batch)))
            return pa.table({"id": batch["id"], "output": outputs})

        path = str(table_path(folder, night))
        rows: Any = datasets.Dataset.from_parquet(path, cache_dir=str(out / "datasets"))
        # A model in a closure has another hash each time: its users name what they computed.
        name = datasets.fingerprint.Hasher.hash([path, work.name, night.head])
        made = rows.with_format("arrow").map(
            scored,
            batched=True,
            batch_size=DATASETS_BATCH if work.kind == "texts" else max(work.call_rows, 1_000),
            remove_columns=rows.column_names,
            new_fingerprint=name,
        )
        target.mkdir()
        made.to_parquet(str(target / "part.parquet"))

    yield score


def _write(table: pa.Table, outputs: pa.Array, target: Path) -> None:
    target.mkdir()
    pq.write_table(pa.table({"id": table["id"], "output": outputs}), target / "part.parquet")
