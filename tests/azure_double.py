"""A double of Azure's Blob Storage for tests: `with serving(AzureDouble()) as azure: ... azure.url`.

Source: https://learn.microsoft.com/rest/api/storageservices/put-blob
https://learn.microsoft.com/rest/api/storageservices/get-blob
https://learn.microsoft.com/rest/api/storageservices/delete-blob
https://learn.microsoft.com/rest/api/storageservices/put-block
https://learn.microsoft.com/rest/api/storageservices/put-block-list
https://learn.microsoft.com/rest/api/storageservices/list-blobs
https://learn.microsoft.com/rest/api/storageservices/blob-batch
https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations
https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import final
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.object_double import BUCKET, Answer, Asked, Kept, ObjectDouble

ACCOUNT = "kvsparktests"
MOST_DELETED = 256
"""By one request."""
_PAGE = 5_000
_DELETED = re.compile(rb"Content-ID: (\d+)\r\n.*?\r\nDELETE /([^ ]+) HTTP/1.1\r\n", re.DOTALL)


@final
class AzureDouble(ObjectDouble):
    """One container of block blobs, without a hierarchy of folders."""

    scheme = "az"

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[str, dict[str, bytes]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"of tests").decode(),
            "AZURE_STORAGE_ENDPOINT": self.endpoint,
        }

    def error(self, status: int, code: str) -> Answer:
        text = f"<?xml version='1.0' encoding='utf-8'?><Error><Code>{code}</Code><Message>of a double</Message></Error>"
        told = {"Content-Type": "application/xml", "x-ms-error-code": code}
        return Answer(status, told, text.encode())

    def answer(self, asked: Asked) -> Answer:
        if not asked.key:
            return self._list(asked) if asked.query["comp"] == "list" else self._batch(asked)
        if asked.method == "PUT":
            return self._put(asked)
        kept = self.objects.get(asked.key)
        if kept is None:
            return self.error(404, "BlobNotFound")
        if not _is_expected(asked, kept):
            return self.error(412, "ConditionNotMet")
        if asked.method == "DELETE":
            del self.objects[asked.key]
            return Answer(202)
        return self.read(asked, kept, {**_told(kept), "x-ms-blob-type": "BlockBlob"})

    def _put(self, asked: Asked) -> Answer:
        what = asked.query.get("comp")
        if what == "block":
            self._blocks.setdefault(asked.key, {})[asked.query["blockid"]] = asked.body
            return Answer(201)
        there = self.objects.get(asked.key)
        if asked.headers.get("if-none-match") == "*" and there is not None:
            return self.error(409, "BlobAlreadyExists")
        if not _is_expected(asked, there):
            return self.error(412, "ConditionNotMet")
        blocks = self._blocks.pop(asked.key, {})
        if what == "blocklist":
            named = [each.text or "" for each in ElementTree.fromstring(asked.body)]
            if not set(named) <= set(blocks):
                return self.error(400, "InvalidBlockList")
            return Answer(
                201, _told(self.keep(asked.key, b"".join(blocks[name] for name in named)))
            )
        if asked.headers.get("x-ms-blob-type") != "BlockBlob":
            return self.error(400, "MissingRequiredHeader")
        return Answer(201, _told(self.keep(asked.key, asked.body)))

    def _batch(self, asked: Asked) -> Answer:
        """Deletes, of which each has an answer of its own."""
        parts = _DELETED.findall(asked.body)
        if asked.query["comp"] != "batch" or not 0 < len(parts) <= MOST_DELETED:
            return self.error(400, "InvalidInput")
        told = b""
        for number, path in parts:
            key = unquote(path.decode()).removeprefix(f"{BUCKET}/")
            status = 404 if self.objects.pop(key, None) is None else 202
            told += (
                b"--answers\r\nContent-Type: application/http\r\nContent-ID: "
                + number
                + b"\r\n\r\n"
            )
            told += f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n\r\n\r\n".encode()
        kind = {"Content-Type": "multipart/mixed; boundary=answers"}
        return Answer(202, kind, told + b"--answers--\r\n")

    def _list(self, asked: Asked) -> Answer:
        query = asked.query
        most = int(query.get("maxresults", _PAGE))
        after = query.get("marker", "")
        page = self.page(query.get("prefix", ""), query.get("delimiter", ""), after, most)
        text = "".join(_listed(key, self.objects[key]) for key in page.keys)
        for prefix in page.prefixes:
            text += f"<BlobPrefix><Name>{escape(prefix)}</Name></BlobPrefix>"
        whole = (
            f"<?xml version='1.0' encoding='utf-8'?><EnumerationResults><Blobs>{text}</Blobs>"
            f"<NextMarker>{escape(page.next)}</NextMarker></EnumerationResults>"
        )
        return Answer(200, {"Content-Type": "application/xml"}, whole.encode())


def _is_expected(asked: Asked, there: Kept | None) -> bool:
    expected = asked.headers.get("if-match")
    return expected is None or (there is not None and expected == f'"{_tag(there)}"')


def _tag(kept: Kept) -> str:
    """In listings without quotes, in headers with them."""
    return f"0x{0x8DE000000000000 + kept.number:X}"


def _told(kept: Kept) -> dict[str, str]:
    return {"ETag": f'"{_tag(kept)}"', "Last-Modified": formatdate(kept.modified, usegmt=True)}


def _listed(key: str, kept: Kept) -> str:
    return (
        f"<Blob><Name>{escape(key)}</Name><Properties>"
        f"<Last-Modified>{formatdate(kept.modified, usegmt=True)}</Last-Modified><Etag>{_tag(kept)}</Etag>"
        f"<Content-Length>{len(kept.data)}</Content-Length><Content-Type>application/octet-stream</Content-Type>"
        f"<BlobType>BlockBlob</BlobType></Properties></Blob>"
    )
