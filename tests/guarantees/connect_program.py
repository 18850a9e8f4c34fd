"""Scores every source of models in a session of Spark Connect; run as a program, prints one JSON object."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from kvspark.infer.model import Model
from tests.guarantees.surfaces import by_score, by_udf

NOBODY = "redis://127.0.0.1:1"


def main(asked_file: Path, url: str) -> dict[str, Any]:
    """The bits of each source, by surface and by what its cache is, in hexadecimal digits."""
    spark = SparkSession.builder.remote("local[2]").getOrCreate()
    asked = json.loads(asked_file.read_text(encoding="utf-8"))
    told: dict[str, Any] = {}
    for surface, run in (("score", by_score(spark)), ("udf", by_udf(spark))):
        told[surface] = {}
        for when, cache in (("cold", url), ("warm", url), ("away", NOBODY)):
            told[surface][when] = {
                name: [
                    None if one is None else one.hex()
                    for one in run(Model.load(folder), output, rows, kind, cache)
                ]
                for name, (folder, output, kind, rows) in asked.items()
            }
    spark.stop()
    return told


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
