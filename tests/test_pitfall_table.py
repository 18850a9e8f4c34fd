"""The 32 known ways in which a cache of model results went wrong, and the tests that keep each away.

The numbers are those of the project's study of other caches. A row names tests that would fail if the
hazard came back; rows that the project does not meet yet say which part of it will.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

TABLE = {
    "P1 weights changed under the same name": [
        "model/test_perturbations.py::test_one_ulp_under_the_same_name_hits_nothing",
        "model/test_fingerprints.py::test_one_ulp_in_one_weight_changes_every_stage_from_there_on",
    ],
    "P2 structure that no weight says": [
        "model/test_fingerprints.py::test_equal_state_dicts_with_other_heads_have_other_fingerprints",
        "model/test_fingerprints.py::test_a_buffer_outside_the_state_dict_counts",
        "model/test_fingerprints.py::test_a_constant_in_the_code_counts",
        "model/test_pitfalls.py::test_what_no_weight_says_is_in_the_fingerprint",
        "model/test_pitfalls.py::test_what_only_the_config_says_is_in_the_fingerprint",
    ],
    "P3 hashes that depend on the process": [
        "model/test_processes.py::test_fingerprints_are_those_of_any_other_process",
        "model/test_fingerprints.py::test_content_is_what_it_was_when_the_golden_file_was_written",
        "cache/key/test_key.py::test_keys_are_the_committed_ones_in_every_process",
        "test_ground.py::test_a_digest_is_equal_in_a_process_of_another_hash_seed",
    ],
    "P4 floats that depend on the batch": [
        "infer/test_exactness.py::test_any_pattern_of_hits_gives_the_bits_of_the_run_without_a_cache",
        "infer/test_exactness.py::test_a_row_has_its_bits_at_every_place_of_a_micro_batch",
    ],
    "P5 a codec that loses bits": ["cache/entry/test_codec.py::test_decode_inverts_encode"],
    "P6 training mode": [
        "model/test_pitfalls.py::test_one_module_in_training_mode_is_enough_to_be_refused",
        "model/test_pitfalls.py::test_making_a_model_changes_no_buffer_of_the_module",
        "model/test_pitfalls.py::test_statistics_that_moved_are_another_fingerprint",
    ],
    "P7 random operators": [
        "model/test_pitfalls.py::test_a_random_operator_is_refused",
        "infer/checks/test_preflight.py::test_a_model_that_is_not_row_wise_is_refused",
    ],
    "P8 tokenizers that drift or change by use": [
        "model/features/test_text.py::test_using_the_tokenizer_does_not_change_the_digest",
        "model/features/test_text.py::test_every_setting_is_in_the_digest",
        "model/features/test_text.py::test_the_vocabulary_is_in_the_digest",
    ],
    "P9 dtypes, switches, library builds, machines": [
        "model/test_pitfalls.py::test_the_same_weights_in_another_dtype_are_another_fingerprint",
        "model/test_pitfalls.py::test_an_autocast_around_the_export_is_refused",
        "model/test_perturbations.py::test_another_build_of_a_library_is_another_fingerprint",
        "model/test_perturbations.py::test_another_machine_or_number_of_threads_has_other_keys",
        "model/stage/test_library.py::test_the_versions_of_decoders_are_part_of_a_build",
    ],
    "P10 prefixes that wrappers put before names": [
        "model/test_fingerprints.py::test_a_compiled_module_has_the_fingerprint_of_the_eager_one",
        "model/test_pitfalls.py::test_a_parallel_wrapper_changes_neither_fingerprint_nor_paths",
    ],
    "P20 a missing key that is given as data": [
        "store/store_contract.py::test_a_missing_key_is_none",
        "cache/entry/test_format.py::test_any_pattern_of_hits_codecs_and_odd_values_gives_the_right_rows_in_order",
    ],
    "P21 collisions": [
        "cache/entry/test_format.py::test_entries_swapped_between_two_keys_are_misses",
        "cache/seal/test_base.py::test_a_value_that_claims_another_row_s_digest_does_not_open",
    ],
    "P22 values that were swapped or changed": [
        "cache/seal/test_base.py::test_sealed_entries_swapped_between_two_keys_are_misses",
        "cache/test_faults.py::test_values_swapped_between_keys_are_misses",
    ],
    "P23 code in data": [
        "test_repo.py::test_nothing_reads_code_from_data",
        "cache/entry/test_format.py::test_a_mutated_entry_never_raises_and_never_gives_a_wrong_row",
        "model/bundle/test_bundle.py::test_a_program_can_name_operators_only",
    ],
    "P24 a store that hangs": [
        "cache/test_faults.py::test_a_hung_server_costs_three_deadlines_and_no_more",
        "cache/guard/test_wait_budget.py::test_what_is_waited_in_vain_is_a_share_of_the_run",
    ],
    "P25 scans that evict what they need next": [
        "cache/stage/test_admission.py::test_of_twice_what_fits_a_part_is_remembered_and_nothing_is_evicted",
    ],
    "P26 replies that are too large": [
        "cache/entry/test_format.py::test_an_entry_above_the_limit_is_not_written_and_not_read",
        "store/redis/test_redis.py::test_many_keys_are_few_commands_and_one_connection",
    ],
    "P27 clients that are forked or pickled": [
        "store/store_contract.py::test_a_forked_child_and_its_parent_both_go_on",
        "store/store_contract.py::test_a_store_is_not_picklable",
    ],
    "P29 skip connections across a cut": [
        "model/test_pitfalls.py::test_a_cut_inside_a_skip_connection_takes_every_tensor_that_crosses",
    ],
    "P30 values that are equal and not the same": [
        "infer/test_exactness.py::test_nan_and_negative_zero_are_kept_apart",
        "infer/rows/test_columns.py::test_bytes_and_text_of_the_same_content_have_other_canonical_bytes",
        "test_ground.py::test_canonically_equivalent_texts_have_other_bytes",
        "test_ground.py::test_every_dtype_has_a_little_endian_numpy_dtype_of_its_size",
        "cache/entry/test_format.py::test_a_column_that_is_not_contiguous_is_stored_as_it_reads",
    ],
    "P31 one moment in which all entries expire": [
        "cache/test_ttl.py::test_what_one_night_wrote_does_not_expire_in_one_moment",
    ],
    "P32 one tenant who asks for another's rows": [
        "cache/key/test_key.py::test_another_namespace_secret_or_stage_gives_other_digests_and_keys",
        "cache/seal/test_base.py::test_equal_rows_of_two_tenants_never_meet",
    ],
}

LATER = {
    "KV-prefix caching": [f"P{number}" for number in range(11, 20)],
    "a run on a GPU": ["P28"],
}


@cache
def functions_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_row_of_the_study_is_here() -> None:
    numbers = [name.split()[0] for name in TABLE] + [row for rows in LATER.values() for row in rows]
    assert sorted(numbers, key=lambda name: int(name[1:])) == [f"P{n}" for n in range(1, 33)]


@pytest.mark.parametrize("row", TABLE)
def test_the_tests_of_a_row_are_there(row: str) -> None:
    for place in TABLE[row]:
        path, _, name = place.partition("::")
        assert name in functions_in(TESTS / path), place
