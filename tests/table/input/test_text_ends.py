"""What Spark's readers of text accept and read wrongly is told; what they read rightly is not."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from kvspark.table.input.text_ends import fault_of_text


@pytest.mark.parametrize(
    ("format_", "text", "options"),
    [
        ("csv", 'id,text\r\n1,"a\r\n""b"", c"\r\n2,12" pipe\r\n', {}),
        ("csv", 'id,text\n1,"a \\" b"\n', {"escape": "\\"}),
        ("csv", 'id|text\n1|"a"', {"sep": "|"}),
        ("csv", "id,text\n1,'a,\n b'\n", {"quote": "'"}),
        ("csv", 'id,text\n# "\n1,a\n', {"comment": "#"}),
        ("csv", 'id,text\n1,"a\n', {"multiLine": "False"}),
        ("csv", "", {}),
        ("json", '\ufeff{"id": 1}\r\n\n  {"id": 2, "text": "} {"} \n', {}),
        ("json", '{"id": NaN, "long": ' + "1" * 5000 + "}\n", {}),
        ("json", "{'id': 1}\n", {"allowSingleQuotes": "true"}),
        ("json", '{\n"id": 1\n}\n', {"multiLine": "True"}),
        ("json", '{"id": 1}|{"id": 2}', {"lineSep": "|"}),
    ],
)
def test_a_whole_file_has_no_fault(
    tmp_path: Path, format_: str, text: str, options: dict[str, str]
) -> None:
    (tmp_path / "x").write_bytes(text.encode())
    assert fault_of_text(str(tmp_path / "x"), format_, options) is None


@pytest.mark.parametrize(
    ("format_", "text", "options"),
    [
        ("csv", 'id,text\n1,"a\n2,b\n', {}),
        ("csv", 'id,text\n1,"a\n2,""', {}),
        ("csv", 'id,text\n1,"a\\"\n', {"escape": "\\"}),
        ("json", '{"id": 1}{"id": 2}\n', {}),
        ("json", '\ufeff{"id": 1} {"id": 2}\n', {}),
        ("json", '{"id": 1}]\n', {}),
        ("json", '{\n"id": 1\n}\n{"id": 2}\n', {"multiLine": "true"}),
        ("json", '{"id": 1}\n{"id": 2}|{"id": 3}', {"lineSep": "|"}),
    ],
)
def test_what_would_be_lost_is_a_fault(
    tmp_path: Path, format_: str, text: str, options: dict[str, str]
) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(text.encode()))
    assert fault_of_text(str(tmp_path / "x.gz"), format_, options)


def test_the_encoding_is_the_one_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes("id,text\n1,ü\n".encode("cp1252"))
    assert fault_of_text(str(tmp_path / "x"), "csv", {"encoding": "windows-1252"}) is None
    assert "not written in utf-8" in str(fault_of_text(str(tmp_path / "x"), "csv", {}))
