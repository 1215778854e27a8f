"""
Which kinds of the library `filetype` a file may be of, according to its first
bytes.

The library asks each of its 79 kinds in turn: 80 us of CPU for a file that is of
none.  This module asks only the kinds whose signature the file has, in the
library's order.  A signature is a necessary condition and may be vague: the library
decides what the file is.  Therefore a kind without a signature here is always
asked, and so is every kind in a version of the library with which these signatures
have not been compared.

`tests/core/test_signatures_proof.py` proves that no kind accepts a file without its
signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ["SIGNATURES", "VERSIONS", "Signature", "SignatureTable", "signatures_of"]

VERSIONS = frozenset({"1.2.0"})
"""The versions of the library whose kinds have these signatures."""


class Signature(NamedTuple):
    """
    Bytes that each file of a kind has.

    :ivar starts: one of these is at the offset.
    :ivar offset: in bytes.
    :ivar first: the bytes with which the file may begin; empty if any may, or if
        `starts` determines them.
    """

    starts: tuple[bytes, ...]
    offset: int = 0
    first: bytes = b""

    def beginnings(self) -> bytes | None:
        """Return the bytes with which such a file may begin; `None` for any."""
        if self.offset == 0 and all(self.starts):
            return bytes({start[0] for start in self.starts})
        return self.first or None


def _begins(*starts: bytes) -> tuple[Signature, ...]:
    return (Signature(starts),)


def _has(offset: int, *starts: bytes, first: bytes = b"") -> tuple[Signature, ...]:
    return (Signature(starts, offset, first),)


_OLE = _begins(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
_EBML = _begins(b"\x1aE\xdf\xa3")
_TIFF = _begins(b"II*\0", b"MM\0*")
# In a ZIP archive: the name of its first file, then that file's content if uncompressed.
_OPEN_XML = _has(
    *(30, b"[Content_Types].xml", b"_rels/.rels", b"docProps", b"word/", b"ppt/", b"xl/"),
    first=b"P",
)
_OPEN_DOCUMENT = b"application/vnd.oasis.opendocument."

SIGNATURES: Mapping[str, tuple[Signature, ...]] = {
    "image.Dwg": _begins(b"AC10"),
    "image.Xcf": _begins(b"gimp xcf v"),
    "image.Jpeg": _begins(b"\xff\xd8\xff"),
    "image.Jpx": _begins(b"\0\0\0\x0c"),
    "image.Apng": _begins(b"\x89PNG\r\n\x1a\n"),
    "image.Png": _begins(b"\x89PNG"),
    "image.Gif": _begins(b"GIF"),
    "image.Webp": _begins(b"RIFF"),
    "image.Tiff": _TIFF,
    "image.Cr2": _TIFF,
    "image.Bmp": _begins(b"BM"),
    "image.Jxr": _begins(b"II\xbc"),
    "image.Psd": _begins(b"8BPS"),
    "image.Ico": _begins(b"\0\0\1\0"),
    "image.Heic": _has(4, b"ftypheic", b"ftypmif1", b"ftypmsf1"),
    "image.Dcm": _has(128, b"DICM"),
    "image.Avif": _has(4, b"ftypavif", b"ftypmif1", b"ftypmsf1"),
    "audio.Aac": _begins(b"\xff\xf1", b"\xff\xf9"),
    "audio.Midi": _begins(b"MThd"),
    "audio.Mp3": _begins(b"ID3", b"\xff\xf2", b"\xff\xf3", b"\xff\xfb"),
    "audio.M4a": _has(4, b"ftypM4A") + _begins(b"M4A "),
    "audio.Ogg": _begins(b"OggS"),
    "audio.Flac": _begins(b"fLaC"),
    "audio.Wav": _begins(b"RIFF"),
    "audio.Amr": _begins(b"#!AMR\n"),
    "audio.Aiff": _begins(b"FORM"),
    "video.M3gp": _begins(b"ftyp3gp"),
    "video.Mp4": _has(4, b"ftyp"),
    "video.M4v": _begins(b"\0\0\0\x1cftypM4V"),
    "video.Mkv": _EBML,
    "video.Mov": _has(4, b"ftypqt  "),
    "video.Avi": _begins(b"RIFF"),
    "video.Wmv": _begins(b"0&\xb2u\x8ef\xcf\x11\xa6\xd9"),
    "video.Mpeg": _begins(b"\0\0\1"),
    "video.Webm": _EBML,
    "video.Flv": _begins(b"FLV\1"),
    "font.Woff": _begins(b"wOFF"),
    "font.Woff2": _begins(b"wOF2"),
    "font.Ttf": _begins(b"\0\1\0\0\0"),
    "font.Otf": _begins(b"OTTO\0"),
    "document.Doc": _OLE,
    "document.Docx": _OPEN_XML,
    "document.Odt": _has(38, _OPEN_DOCUMENT + b"text", first=b"P"),
    "document.Xls": _OLE,
    "document.Xlsx": _OPEN_XML,
    "document.Ods": _has(38, _OPEN_DOCUMENT + b"spreadsheet", first=b"P"),
    "document.Ppt": _OLE,
    "document.Pptx": _OPEN_XML,
    "document.Odp": _has(38, _OPEN_DOCUMENT + b"presentation", first=b"P"),
    "archive.Br": _begins(b"\xce\xb2\xcf\x81"),
    "archive.Rpm": _begins(b"\xed\xab\xee\xdb"),
    "archive.Dcm": _has(128, b"DIC"),
    "archive.Epub": _has(30, b"mimetypeapplication/epub+zip", first=b"P"),
    "archive.Zip": _begins(b"PK"),
    "archive.Tar": _has(257, b"ustar"),
    "archive.Rar": _begins(b"Rar!\x1a\7"),
    "archive.Gz": _begins(b"\x1f\x8b\x08"),
    "archive.Bz2": _begins(b"BZh"),
    "archive.SevenZ": _begins(b"7z\xbc\xaf'\x1c"),
    "archive.Pdf": _begins(b"%PDF", b"\xef\xbb\xbf%PDF"),
    "archive.Exe": _begins(b"MZ"),
    "archive.Swf": _begins(b"CWS", b"FWS"),
    "archive.Rtf": _begins(b"{\\rtf"),
    "archive.Nes": _begins(b"NES\x1a"),
    "archive.Crx": _begins(b"Cr24"),
    "archive.Cab": _begins(b"MSCF", b"ISc("),
    "archive.Eot": _has(34, b"LP"),
    "archive.Ps": _begins(b"%!"),
    "archive.Xz": _begins(b"\xfd7zXZ\0"),
    "archive.Sqlite": _begins(b"SQLi"),
    "archive.Deb": _begins(b"!<arch>\ndebian-binary"),
    "archive.Ar": _begins(b"!<arch>"),
    "archive.Z": _begins(b"\x1f\xa0", b"\x1f\x9d"),
    "archive.Lzop": _begins(b"\x89LZO\0\r\n\x1a"),
    "archive.Lz": _begins(b"LZIP"),
    "archive.Elf": _begins(b"\x7fELF"),
    "archive.Lz4": _begins(b'\4"M\x18'),
    "archive.Zstd": _begins(
        *(bytes([first]) + b"\xb5/\xfd" for first in range(0x22, 0x29)),
        *(bytes([first]) + b"*M\x18" for first in range(0x50, 0x60)),
    ),
    "application.Wasm": _begins(b"\0asm\1\0\0\0"),
}
"""The signatures, by the module and the class of each kind in the library."""


def signatures_of(version: str) -> Mapping[str, tuple[Signature, ...]]:
    """
    Return the signatures for a version of the library: none if it is not one of
    `VERSIONS`, because its kinds may accept other files.
    """
    return SIGNATURES if version in VERSIONS else {}


_ANYTHING = Signature((b"",))


class SignatureTable:
    """
    The kinds of the library, in the order in which it asks them.

    :param kinds: each has ``match(head)`` and ``extension``.
    :param signatures: of the kinds that have one; see `SIGNATURES`.
    """

    def __init__(
        self, kinds: Iterable[Any], signatures: Mapping[str, tuple[Signature, ...]]
    ) -> None:
        asked = []
        for kind in kinds:
            name = f"{type(kind).__module__.rpartition('.')[2]}.{type(kind).__name__}"
            for signature in signatures.get(name, (_ANYTHING,)):
                suffix = f".{kind.extension}" if kind.extension else ""
                row = signature.offset, signature.starts, kind.match, suffix
                asked.append((signature.beginnings(), row))
        firsts = {byte for beginnings, _ in asked for byte in beginnings or b""}
        self._asked = {
            byte: [row for beginnings, row in asked if beginnings is None or byte in beginnings]
            for byte in firsts
        }
        self._always = [row for beginnings, row in asked if beginnings is None]

    def suffix(self, head: bytes) -> str | None:
        """
        Return the suffix of the first kind that the file is of; `None` if it is of none.

        :param head: its first bytes, as many as the library reads.  Not empty.
        :raises Exception: whatever a kind raises: a third-party parser reads hostile bytes.
        """
        for offset, starts, match, suffix in self._asked.get(head[0], self._always):
            if head.startswith(starts, offset) and match(head):
                return suffix
        return None
