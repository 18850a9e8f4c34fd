"""What each field of `run.json` means, and each word in it, for `kvspark explain`: the texts alone.

Every field that a report or a line of a history has is here; a test looks for one that is not.
"""

from __future__ import annotations

RUN_FIELDS = {
    "format": "The version of this file's layout. A reader that knows it knows every field.",
    "run_id": "The run's name: run.id, or what was derived from the conf and run.logical_date.",
    "name": "run.name of the conf.",
    "logical_date": "The date that the run is for, as the scheduler says it; null where it says none.",
    "started_at": "When the run began: UTC, ISO 8601.",
    "model": "The model's name; no part of any fingerprint or key.",
    "fingerprint": "The model's fingerprint, 64 hexadecimal digits. Where it is equal, equal rows get equal outputs.",
    "output": "The folder that was published.",
    "inputs": "input.paths of the conf, or the query of input.sql.",
    "rows_in": "Rows that were read, after input.filter and input.partitions.",
    "rows_out": "Rows of the output. rows_in = rows_out + rows_quarantined, or nothing is published.",
    "input_files": "Files that were read.",
    "input_version": "Which rows of a table were read: the run that published it, its version or its snapshot; null "
    "where the input is a list of files.",
    "input_since": "The version of a table since which the rows are new that were read (input.changed_since); null where "
    "all rows of input_version were.",
    "input_part": "A digest of the table's own id, input.filter and input.partitions: by it input.changed_since tells that "
    "the last run has read the same part of the same table; behind `among others` where the run kept rows of the output and did not "
    "ask which ones the input has no more; null where the input is no table with versions.",
    "results_digest": "A digest of the model, inputs, outputs, rounding codecs and input.on_bad_row: equal where two runs give a row "
    "the same results. With input.changed_since and output.mode: merge a run of another one is refused.",
    "input_digest": "A digest of the names, sizes and ETags (or times of writing) of the files that were read: equal where "
    "two runs read the same; null where that cannot be said.",
    "input_names": "The files that were read, up to 1,000; none where input_version says which.",
    "empty_input_files": "Files of zero bytes, which were skipped; input.strict_files refuses them.",
    "output_files": "Parquet files of the output.",
    "output_bytes": "Their size on disk, in bytes.",
    "stages": "The model's stages in the order in which they are computed; each has the fields "
    "`stages.rows` and so on.",
    "cache": "cache.url of the conf, without user or password; null without a cache.",
    "cache_errors": "What failed in the cache, by reason: calls to the store, and values that "
    "were not the entries looked for. Each was a miss, and its rows were computed. "
    "`kvspark explain REASON` says what one of them means.",
    "degraded": "Why the cache was not used, or not all the time; empty in a healthy run. The rows are "
    "the same: only time was lost. With run.require_cache such a run exits with 69.",
    "bad_rows": "Rows without a result: by stage (`input` where the value itself is bad), and there by "
    "error. Empty with input.on_bad_row: error, which fails the run at the first.",
    "seconds": "Seconds on the clock of each phase: open (Spark and model), read (listing and footers), "
    "preflight, plan, score, validate, publish. `publish` is 0 in the file, which is part of what is published.",
    "total_seconds": "The sum of all phases.",
    "seconds_saved": "About how many seconds of workers the cache saved: hits, times what computing a "
    "row takes, less the time that look-ups, inserts and waiting took. Below 0 the cache cost more than it "
    "saved. A stage that nobody has measured yet counts as 0. null without a cache.",
    "versions": "The builds of kvspark, Python, Spark and torch on the driver. Another build is "
    "another fingerprint where it decides bits.",
    "on_bad_row": "input.on_bad_row of the conf.",
    "rows_replaced": "Rows of the table in whose place others came with the same ids (output.mode: merge).",
    "rows_removed": "Rows of the table that went, and none came in their place: the input has removed them, or the new row is "
    "bad or left out (output.mode: merge).",
    "rows_quarantined": "Rows that are not in the output but in `_kvspark/quarantine` inside it.",
    "lossy": "The codec of each stage whose results were rounded on request; outputs are not exact then.",
    "plan": "What was measured before the run and which stages are cached therefore, as `kvspark plan --json` "
    "prints it; null where the plan is the rule's (plan.mode, or fewer than 10,000 rows).",
    "writer": "Who wrote the rows: arrow, spark, or spark and why it was not arrow, which output.writer asked for.",
    "reader": "Who read the rows: workers, those that scored them, or spark, which gave them to these.",
    "partition_types": "The type of each column of output.partition_by, which names folders and is in no file; empty "
    "without such columns, and in reports of earlier versions.",
}

HISTORY_FIELDS = {
    "state": "What became of the run: published, failed (an error), interrupted (a signal), died (killed, or "
    "its machine stopped). Only published runs changed the output.",
    "exit_code": "The exit code of the command; 0 where it published, null where it died.",
    "code": "The KVS code of the error that ended the run; null without one. `kvspark explain CODE`.",
    "phase": "The phase in which the run ended: open, read, preflight, plan, score, validate, publish; null before "
    "the first, and where it published or died.",
    "message": "The line that the run ended with; null where it published.",
}
"""What a line of a history has besides."""

STAGE_FIELDS = {
    "fingerprint": "The stage's fingerprint: its operators, weights, shapes and build, and all stages before it.",
    "upstream": "The stages whose results it takes.",
    "rows": "Rows that were asked of this stage. A stage before a hit is asked for none.",
    "lookups": "Distinct rows that were looked up in the store.",
    "hits": "Of those, the rows that were found. hits / lookups is the hit rate.",
    "duplicates": "Rows that are equal to another one of the same window: asked for once.",
    "computed": "Distinct rows that were computed, without the dummy rows that fill a micro-batch.",
    "micro_batches": "Calls of the model.",
    "padding_rows": "Dummy rows that filled micro-batches to their fixed shape: computed for nothing.",
    "bytes_read": "Bytes of the entries that were found.",
    "bytes_written": "Bytes of the entries that were inserted.",
    "seconds_lookup": "Seconds of workers in look-ups, opening what was found included.",
    "seconds_compute": "Seconds of workers in the model.",
    "seconds_insert": "Seconds of workers in inserts; with cache.overlap_bytes, of handing over alone.",
    "weights_loaded": "Workers that opened this stage's weights; 0 where all rows were found.",
    "recalled": "Distinct rows whose results the worker still had in memory; the store was not asked.",
    "leased": "Distinct rows that another worker computed meanwhile (cache.lease_from_ms).",
    "seconds_opened": "Seconds in which workers opened this stage, all together; the first one that a worker opens imports the runtime too.",
    "seconds_waited": "Seconds for which workers waited for such rows and had nothing else to do.",
    "rested": "Distinct rows that were neither looked up nor written: that cost more than it saved (plan.watch).",
    "rest": "Where rows rested: since when the first worker left the store alone (UTC), and in how many tasks for which "
    "reason. `slower`: looking a row up took longer than computing it, in `lookup_us` and `compute_us`; `forgets`: the "
    "store had nothing of what was inserted a moment before; `owes`: look-ups and inserts had cost more than they "
    "saved. null where none rested.",
    "turned_away": "Distinct rows that were computed and not written: above the share that fits into "
    "cache.budget_bytes.",
    "seconds_per_row": "Seconds of one worker to compute a row: measured in this run, else in the one "
    "whose output this replaced; null where neither has computed any.",
}
"""Each stage in `stages`, by its name."""

REASONS = {
    "timeout": "A call took longer than cache.timeout_ms. A store that is only far away needs more.",
    "unavailable": "The store did not answer: down, refused, reset, loading. `kvspark doctor CONF`.",
    "full": "The store takes no writes: out of memory, read-only or its disk full. Reads go on.",
    "refused": "The store refuses this user; not tried again. See KVS-1503.",
    "slow": "Answers took longer than the hits saved: the store was not asked for a while.",
    "skipped": "Calls that were not made, because earlier ones had failed: the breaker was open.",
    "dropped": "Results that were not stored: the store took too long at the end of a task (cache.overlap_bytes).",
    "failed": "Results that were not stored because of an error; the log names its kind.",
    "erased": "Results that were not stored, because a purge had erased their rows.",
    "oversize": "Values that are longer than any entry may be.",
    "foreign": "Values that are no entries, or of a version or codec that this reader does not know.",
    "unexpected": "Entries with other tensors than this stage has.",
    "misplaced": "Entries of another row: the store mixes its keys up, and is not asked again.",
    "not_sealed": "Entries in clear where they should be sealed. Somebody else wrote them.",
    "corrupt": "Entries whose bytes have changed.",
    "unknown_key": "Entries that were sealed with a key that is not in the file: distribute it, or it is retired.",
    "not_authentic": "Sealed entries that do not open: changed, moved, or made by somebody without the key.",
    "too_large": "Results that are too large to be one entry.",
    "out_of_memory": "A GPU's memory did not hold a micro-batch: rows were computed in smaller ones, so their "
    "last bits may differ, and were not stored.",
    "unchecked": "The preflight could not check the model (no row can be scored, or the driver has no "
    "GPU): what is not checked is not cached.",
}
"""The words of `cache_errors` and `degraded`."""
