"""Who is compared, in which environment, and what each can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from tests.bench.beside.workload import Night

ALL = frozenset({"texts", "pairs", "tabular", "trees", "pictures"})
TEXTS = frozenset({"texts"})

OURS = "kvspark_without_cache"
CACHED = "kvspark_with_redis"
JOB = "kvspark_job"
CACHED_JOB = "kvspark_job_with_redis"
SPARKS = "predict_batch_udf"


@final
@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to score a night."""

    name: str
    """Of the function in `module` that opens it."""
    title: str
    module: str
    package: str
    """The distribution whose version is shown."""
    remembers: bool = False
    """True if a night may use what nights before it have computed."""
    environment: str | None = None
    """In `environments.py`; None where `make setup` brings all that it needs."""
    kinds: frozenset[str] = ALL
    """The kinds of work that it does."""
    why_not: str = ""
    """Why it does no other kind."""

    def scores(self, night: Night) -> bool:
        """True if it runs this night; a night that it does not run would compute all rows again."""
        return self.remembers or night.is_new or self.name == OURS


CONTESTANTS = (
    Contestant(OURS, "kvspark, no cache", "ours", "kvspark"),
    Contestant(CACHED, "kvspark, Redis", "ours", "kvspark", remembers=True),
    Contestant(JOB, "kvspark job, no cache", "ours", "kvspark"),
    Contestant(CACHED_JOB, "kvspark job, Redis, plan measured", "ours", "kvspark", remembers=True),
    Contestant(SPARKS, "Spark `predict_batch_udf`", "on_spark", "pyspark"),
    Contestant(
        "predict_batch_udf_sorted",
        "the same, 1,000 texts a call, sorted",
        "on_spark",
        "pyspark",
        kinds=TEXTS,
        why_not="rows of fixed size need no sorting",
    ),
    Contestant(
        "pandas_udf_and_redis",
        "pandas UDF + Redis by hand",
        "on_spark",
        "redis",
        remembers=True,
    ),
    Contestant(
        "anti_join", "anti-join on yesterday's output", "on_spark", "pyspark", remembers=True
    ),
    Contestant("mlflow_spark_udf", "MLflow `spark_udf`", "on_spark", "mlflow-skinny"),
    Contestant(
        "sentence_transformers",
        "sentence-transformers, one process",
        "on_one",
        "sentence-transformers",
        kinds=TEXTS,
        why_not="embeds texts only",
    ),
    Contestant(
        "langchain_and_redis",
        "LangChain `CacheBackedEmbeddings` + Redis",
        "on_one",
        "langchain-classic",
        remembers=True,
        environment="langchain",
        kinds=TEXTS,
        why_not="caches embeddings of texts only",
    ),
    Contestant(
        "datasets_map",
        "Hugging Face `datasets.map`",
        "on_one",
        "datasets",
        remembers=True,
        environment="datasets",
    ),
    Contestant("ray_data", "Ray Data", "elsewhere", "ray", environment="ray"),
    Contestant("daft_udf", "Daft", "elsewhere", "daft", environment="daft"),
    Contestant(
        "distribatch",
        "distribatch",
        "elsewhere",
        "distribatch",
        remembers=True,
        environment="distribatch",
        kinds=TEXTS,
        why_not="does texts and speech only",
    ),
)

OF_KVSPARK = (OURS, CACHED, JOB, CACHED_JOB)
"""They must have the same bits."""

BY_NAME = {contestant.name: contestant for contestant in CONTESTANTS}
