"""A double of Google Cloud Storage for tests, by its XML API: `with serving(GcsDouble()) as gcs: ... gcs.url`.

Source: https://cloud.google.com/storage/docs/xml-api/reference-headers (`x-goog-if-generation-match`, `x-goog-generation`)
https://cloud.google.com/storage/docs/xml-api/put-object-upload
https://cloud.google.com/storage/docs/xml-api/get-object-download
https://cloud.google.com/storage/docs/xml-api/delete-object
https://cloud.google.com/storage/docs/xml-api/get-bucket-list
https://cloud.google.com/storage/docs/multipart-uploads
https://cloud.google.com/storage/docs/xml-api/reference-status
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.object_double import Answer, Asked, Kept, ObjectDouble

SMALLEST_PART = 5 << 20
"""Bytes of every part of an upload but the last one."""
_PAGE = 1_000
_NAMESPACE = "http://doc.s3.amazonaws.com/2006-03-01"


@final
class GcsDouble(ObjectDouble):
    """One bucket, without older versions of its objects."""

    scheme = "gs"

    def __init__(self) -> None:
        super().__init__()
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._begun = 0

    @property
    def environment(self) -> Mapping[str, str]:
        account = {
            "gcs_base_url": self.endpoint,
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account)}

    def error(self, status: int, code: str) -> Answer:
        text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>of a double</Message></Error>"
        return Answer(status, {"Content-Type": "application/xml"}, text.encode())

    def answer(self, asked: Asked) -> Answer:
        if not asked.key:
            return self._list(asked)
        if "uploadId" in asked.query or "uploads" in asked.query:
            return self._upload(asked)
        if asked.method == "PUT":
            return self._put(asked)
        kept = self.objects.get(asked.key)
        if kept is None:
            return self.error(404, "NoSuchKey")
        if asked.method == "DELETE":
            del self.objects[asked.key]
            return Answer(204)
        if asked.headers.get("if-match", _tag(kept.data)) != _tag(kept.data):
            return self.error(412, "PreconditionFailed")
        return self.read(asked, kept, _told(kept))

    def _put(self, asked: Asked) -> Answer:
        expected = asked.headers.get("x-goog-if-generation-match")
        there = self.objects.get(asked.key)
        if expected is not None and int(expected) != (_generation(there) if there else 0):
            return self.error(412, "PreconditionFailed")
        return Answer(200, _told(self.keep(asked.key, asked.body)))

    def _upload(self, asked: Asked) -> Answer:
        if "uploads" in asked.query:
            self._begun += 1
            self._uploads[str(self._begun)] = {}
            told = f"<InitiateMultipartUploadResult><UploadId>{self._begun}</UploadId></InitiateMultipartUploadResult>"
            return Answer(200, body=told.encode())
        upload = asked.query["uploadId"]
        parts = self._uploads.get(upload)
        if parts is None:
            return self.error(404, "NoSuchUpload")
        if asked.method == "PUT":
            parts[int(asked.query["partNumber"])] = asked.body
            return Answer(200, {"ETag": _tag(asked.body)})
        if asked.method == "DELETE":
            del self._uploads[upload]
            return Answer(204)
        return self._complete(asked, upload, parts)

    def _complete(self, asked: Asked, upload: str, parts: Mapping[int, bytes]) -> Answer:
        named = [
            (int(part.findtext("PartNumber", "0")), part.findtext("ETag", ""))
            for part in ElementTree.fromstring(asked.body).iter("Part")
        ]
        data = [parts.get(number) for number, _ in named]
        made = [each for each in data if each is not None]
        if len(made) < len(data) or [_tag(each) for each in made] != [tag for _, tag in named]:
            return self.error(400, "InvalidPart")
        if named != sorted(named):
            return self.error(400, "InvalidPartOrder")
        if any(len(each) < SMALLEST_PART for each in made[:-1]):
            return self.error(400, "EntityTooSmall")
        del self._uploads[upload]
        kept = self.keep(asked.key, b"".join(made))
        told = f"<CompleteMultipartUploadResult><ETag>{_tag(kept.data)}</ETag></CompleteMultipartUploadResult>"
        return Answer(200, _told(kept), told.encode())

    def _list(self, asked: Asked) -> Answer:
        query = asked.query
        if asked.method != "GET" or query.get("list-type") != "2":
            return self.error(400, "InvalidArgument")
        after = query.get("continuation-token", query.get("start-after", ""))
        most = int(query.get("max-keys", _PAGE))
        page = self.page(query.get("prefix", ""), query.get("delimiter", ""), after, most)
        text = "".join(_listed(key, self.objects[key]) for key in page.keys)
        for prefix in page.prefixes:
            text += f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>"
        text += f"<IsTruncated>{'true' if page.next else 'false'}</IsTruncated>"
        if page.next:
            text += f"<NextContinuationToken>{escape(page.next)}</NextContinuationToken>"
        whole = f"<ListBucketResult xmlns='{_NAMESPACE}'>{text}</ListBucketResult>"
        return Answer(200, {"Content-Type": "application/xml"}, whole.encode())


def _generation(kept: Kept) -> int:
    """In microseconds, as it looks there; greater with every write."""
    return 1_700_000_000_000_000 + kept.number


def _tag(data: bytes) -> str:
    """The same for the same bytes: of writes it tells nothing, which generations do."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _told(kept: Kept) -> dict[str, str]:
    return {"ETag": _tag(kept.data), "x-goog-generation": str(_generation(kept))}


def _listed(key: str, kept: Kept) -> str:
    when = datetime.fromtimestamp(kept.modified, timezone.utc).isoformat(timespec="milliseconds")
    return (
        f"<Contents><Key>{escape(key)}</Key><Generation>{_generation(kept)}</Generation>"
        f"<LastModified>{when.replace('+00:00', 'Z')}</LastModified><ETag>{_tag(kept.data)}</ETag>"
        f"<Size>{len(kept.data)}</Size></Contents>"
    )
