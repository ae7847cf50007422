"""From bytes to text: UTF-8 or a diagnostic."""

from __future__ import annotations

import re

from eulerc.diagnostics.model import Diagnostics
from eulerc.frontend.source import SourceText
from eulerc.ir.span import Span

MAX_BYTES = 4 * 1024 * 1024

# What YAML 1.2.2 leaves out of c-printable (production 1), and the byte order mark, which nobody can see.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_WIDE_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_MAX_CHARACTERS_REPORTED = 20
_SAVE_AS_UTF8 = "save the file as UTF-8"


def decode(data: bytes, source: str, diagnostics: Diagnostics) -> str | None:
    """The text of a file without its byte order mark; None after a diagnostic."""
    top = Span(source, 1, 1, 1, 1)
    if len(data) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB"
        diagnostics.error("E0103", message, top, help="a spec is a few kilobytes of text; is this the right file?")
        return None
    wide = next((name for mark, name in _WIDE_MARKS.items() if data.startswith(mark)), None)
    if wide is None and b"\x00" in data[:4]:
        wide = "UTF-16 or binary data"
    if wide is not None:
        diagnostics.error("E0102", f"the file is {wide}, not UTF-8", top, help=_SAVE_AS_UTF8)
        return None
    return _decode_utf8(data.removeprefix(b"\xef\xbb\xbf"), source, diagnostics)


def _decode_utf8(data: bytes, source: str, diagnostics: Diagnostics) -> str | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = SourceText(source, data[: error.start].decode("utf-8") + "\N{REPLACEMENT CHARACTER}")
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        span = before.span(len(before.text) - 1)
        diagnostics.error("E0102", message, span, "cannot be decoded", help=_SAVE_AS_UTF8)
        return None
    return text if _is_printable(SourceText(source, text), diagnostics) else None


def _is_printable(source: SourceText, diagnostics: Diagnostics) -> bool:
    found = list(_FORBIDDEN.finditer(source.text))
    for match in found[:_MAX_CHARACTERS_REPORTED]:
        message = f"character U+{ord(match[0]):04X} is not allowed in YAML"
        diagnostics.error("E0117", message, source.span(match.start()), "invisible; delete it")
    return not found
