"""How many tokens a network has positions for."""

from __future__ import annotations

import re
from typing import Any

import torch

_TABLE = re.compile(r"(position_embeddings?|wpe|embed_positions)$")
_NEAR = 8
"""A table may have rows that no token takes, before or behind: from so many below its size on a length is tried."""


def most_tokens(network: Any) -> int | None:
    """The tokens of a row that `network` has positions for; None where it has no table of them.

    Families begin to count at different rows of their table, so that the network itself is asked, once.
    """
    tables = [
        module
        for name, module in network.named_modules()
        if _TABLE.search(name) and isinstance(module, torch.nn.Embedding)
    ]
    if not tables:
        return None
    most = min(table.num_embeddings - _unused(table) for table in tables)
    for length in range(most, max(most - _NEAR, 0), -1):
        if _takes(network, length):
            return length
    return most


def _unused(table: torch.nn.Embedding) -> int:
    # RoBERTa and its kin count from behind the padding's own place, BART from an offset.
    behind = 0 if table.padding_idx is None else table.padding_idx + 1
    return max(behind, int(getattr(table, "offset", 0) or 0))


def _takes(network: Any, length: int) -> bool:
    """True if the network computes a row of `length` tokens."""
    # A token that is no padding: RoBERTa gives padding no position of its own.
    token = 0 if network.config.pad_token_id != 0 else 1
    ids = torch.full((1, length), token, dtype=torch.int64)
    end = network.config.eos_token_id
    if isinstance(end, int) and end != network.config.pad_token_id:
        ids[:, -1] = end  # BART reads its result there
    try:
        with torch.inference_mode():
            network(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError, ValueError):
        return False
    return True
