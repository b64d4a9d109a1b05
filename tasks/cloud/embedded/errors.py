"""errors: error responses in the formats of AWS's services."""

from __future__ import annotations

import json
from collections.abc import Iterable

Answer = tuple[str, list[tuple[str, str]], Iterable[bytes]]


def xml_error(status: str, code: str, message: str, *, root: str = "Response") -> Answer:
    """An error in EC2's format; an empty `root` gives S3's, ErrorResponse gives Route53's."""
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    wrapped = {
        "": error.replace("</Error>", "<RequestId>embedded</RequestId></Error>"),
        "Response": f"<Response><Errors>{error}</Errors><RequestID>embedded</RequestID></Response>",
    }.get(root, f"<{root}>{error}<RequestId>embedded</RequestId></{root}>")
    return _answer(status, "text/xml", f'<?xml version="1.0" encoding="UTF-8"?>\n{wrapped}')


def json_error(status: str, code: str, message: str) -> Answer:
    """An error of a service that uses JSON."""
    return _answer(status, "application/x-amz-json-1.1", json.dumps({"__type": code, "message": message}))


def _answer(status: str, kind: str, text: str) -> Answer:
    content = text.encode()
    return status, [("Content-Type", kind), ("Content-Length", str(len(content)))], [content]
