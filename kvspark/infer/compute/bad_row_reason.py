"""What torch, onnxruntime and numpy say of a row, where it holds nothing of the row.

Their texts are written down here one by one: sizes, dtypes and names of operators tell nothing of what a
row holds. Every other text is withheld, because it may quote the row, and errors are logged.
"""

from __future__ import annotations

import re

from kvspark.model.run.index_range import outside_words

_NUMBER = r"-?\d+"
_SHAPE = r"[\[({]?[\d\s,x.-]*[\])}]?"
_DTYPE = r"(?:c10::)?[A-Za-z]+\d{0,2}"

_SAFE = tuple(
    re.compile(pattern.replace("<n>", _NUMBER).replace("<s>", _SHAPE).replace("<t>", _DTYPE))
    for pattern in (
        r"mat1 and mat2 shapes cannot be multiplied \(<s> and <s>\)",
        r"mat1 and mat2 must have the same dtype, but got <t> and <t>",
        r"(?:size mismatch, )?got input \(<n>\), mat \(<s>\), vec \(<n>\)",
        r"The size of tensor a \(<n>\) must match the size of tensor b \(<n>\) at non-singleton dimension <n>",
        r"shape '<s>' is invalid for input of size <n>",
        r"expected (?:m1 and m2|scalar type|self and mat2) .{0,20}?\b<t> but (?:found|got:?) <t>",
        r"Expected (?:size for first two dimensions|input batch_size) .{0,60}\d\]?",
        r"Sizes of tensors must match except in dimension <n>\. .{0,20}Expected size <n> but got size <n> .*",
        r"Given groups=<n>, (?:weight of size <s>,? ?)+expected input<s> to have <n> channels, but got <n>.*",
        r"Calculated padded input size per channel: \(<s>\)\. Kernel size: \(<s>\)\. Kernel size can't .*",
        r"(?:stack|cat) expects each tensor to be equal size, but got <s> at entry <n> and <s> at entry <n>",
        r"(?:\w+\(\): )?Expected reduction dim(?:ension)? <n> to have non-zero size\.?",
        r"(?:\w+\(\): )?cannot (?:perform|compute) .{0,40} with no identity.?",
        r"Dimension out of range \(expected to be in range of \[<n>, <n>\], but got <n>\)",
        r"selected index k out of range",
        r"start \(<n>\) \+ length \(<n>\) exceeds dimension size \(<n>\)\.?",
        r"probability tensor contains either `inf`, `nan` or element < 0",
        r"\"?[\w.]+\"? not implemented for '<t>'",
        r"The expanded size of the tensor \(<n>\) must match the existing size \(<n>\) at .*",
        r"operands could not be broadcast together with shapes (?:<s> ?)+",
    )
)

_INDEX = (
    re.compile(rf"index ({_NUMBER}) is out of bounds for (?:dimension|axis) \d+ with size (\d+)"),
    re.compile(rf"idx=({_NUMBER}) must be within the inclusive range \[-?\d+,(\d+)\]"),
)
"""An index and the size of what it is looked up in (onnxruntime: its last index)."""

_MOST = 200


def said_of(error: Exception) -> str | None:
    """The words of `error` that hold nothing of a row; None where it may hold something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return None
    for place, pattern in enumerate(_INDEX):
        if found := pattern.search(str(error)):
            size = int(found.group(2)) + place
            return outside_words(int(found.group(1)), -size, size)
    if "index out of range in self" in lines[0]:
        return "an id outside the table that it is looked up in"
    text = lines[0].rstrip(".")
    if any(pattern.fullmatch(text) or pattern.fullmatch(lines[0]) for pattern in _SAFE):
        return text[:_MOST]
    return None
