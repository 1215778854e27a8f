"""
A sample of each kind of file that the library `filetype` knows.
"""

from __future__ import annotations

from typing import Any

__all__ = ["EVERY_SAMPLE", "NEVER", "SAMPLES", "kind_name"]


def kind_name(kind: Any) -> str:
    """Return the name that the signatures use for a kind."""
    return f"{type(kind).__module__.rpartition('.')[2]}.{type(kind).__name__}"


def _at(*pieces: tuple[int, bytes], size: int) -> bytes:
    """Return a file with these pieces at these offsets, and nothing of any other kind."""
    head = bytearray(size)
    for offset, piece in pieces:
        head[offset : offset + len(piece)] = piece
    return bytes(head)


def _zip(*names: bytes, content: bytes = b"") -> bytes:
    return b"".join(b"PK\3\4" + bytes(26) + name + content + bytes(40) for name in names)


def _brand(major: bytes, *compatible: bytes) -> bytes:
    brands = b"".join(compatible)
    return (16 + len(brands)).to_bytes(4, "big") + b"ftyp" + major + bytes(4) + brands


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
EBML = b"\x1aE\xdf\xa3\xa3\x42\x86\x81\1"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(17)
CONTENT = b"[Content_Types].xml", b"_rels/.rels"
OASIS = b"application/vnd.oasis.opendocument."
SFNT = b"\0\1\0\0", b"OTTO", b"true"
AR = b"!<arch>\n"

# Each way there is to be of a kind, by its name.
SAMPLES: dict[str, tuple[bytes, ...]] = {
    "image.Dwg": (b"AC1032",),
    "image.Xcf": (b"gimp xcf v011\0",),
    "image.Jpeg": (b"\xff\xd8\xff\xe0",),
    "image.Jpx": (b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ".ljust(51),),
    "image.Apng": (PNG + b"\0\0\0\x08acTL",),
    "image.Png": (b"\x89PNG", PNG + b"\0\0\0\x01IDAT"),
    "image.Gif": (b"GIF87a", b"GIF89a"),
    "image.Webp": (b"RIFF\0\1\0\0WEBPVP8L",),
    "image.Tiff": (b"II*\0\x08\0\0\0\1\0", b"MM\0*\0\0\0\x08\0\1"),
    "image.Cr2": (b"II*\0\x10\0\0\0CR", b"MM\0*\0\0\0\x10CR"),
    "image.Bmp": (b"BM\0",),
    "image.Jxr": (b"II\xbc\1",),
    "image.Psd": (b"8BPS\0",),
    "image.Ico": (b"\0\0\1\0",),
    "image.Heic": (_brand(b"heic"), _brand(b"mif1", b"mif1", b"heic"), _brand(b"msf1", b"heic")),
    "image.Dcm": (_at((128, b"DICM"), size=200),),
    "image.Avif": (_brand(b"avif"), _brand(b"mif1", b"mif1", b"avif"), _brand(b"msf1", b"avif")),
    "audio.Aac": (b"\xff\xf1\0", b"\xff\xf9\0"),
    "audio.Midi": (b"MThd\0",),
    "audio.Mp3": (b"ID3\3", b"\xff\xf2\0", b"\xff\xf3\0", b"\xff\xfb\0"),
    "audio.M4a": (_brand(b"M4A "), b"M4A \0\0\0\0\0\0\0"),
    "audio.Ogg": (b"OggS\0",),
    "audio.Flac": (b"fLaC\0",),
    "audio.Wav": (b"RIFF\0\1\0\0WAVEfmt ",),
    "audio.Amr": (b"#!AMR\n\0\0\0\0\0\0",),
    "audio.Aiff": (b"FORM\0\0\1\0AIFF",),
    "video.M3gp": (b"ftyp3gp5\0",),
    "video.Mp4": (
        *(_brand(b"isom"), _brand(b"mp41"), _brand(b"mp42"), _brand(b"avc1", b"avc1", b"isom")),
    ),
    "video.M4v": (b"\0\0\0\x1cftypM4V ",),
    "video.Mkv": (EBML + b"\x42\x82\x88matroska",),
    "video.Mov": (_brand(b"qt  "),),
    "video.Avi": (b"RIFF\0\1\0\0AVI LIST",),
    "video.Wmv": (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0",),
    "video.Mpeg": (b"\0\0\1\xb0", b"\0\0\1\xba", b"\0\0\1\xbf"),
    "video.Webm": (EBML + b"\x42\x82\x84webm",),
    "video.Flv": (b"FLV\1\5",),
    "font.Woff": tuple(b"wOFF" + flavour for flavour in SFNT),
    "font.Woff2": tuple(b"wOF2" + flavour for flavour in SFNT),
    "font.Ttf": (b"\0\1\0\0\0",),
    "font.Otf": (b"OTTO\0",),
    "document.Doc": (
        _at((0, OLE), (512, b"\xec\xa5\xc1\0"), size=600),
        _at(
            (0, OLE),
            (2075, b"\0\n\0\0\0MSWordDoc\0\x10\0\0\0Word.Document.8\0\xf49\xb2q"),
            size=2200,
        ),
    ),
    "document.Docx": (
        *(_zip(b"word/document.xml"), _zip(*CONTENT, b"word/document.xml")),
        *(_zip(b"_rels/.rels", b"word/x"), _zip(b"docProps/app.xml", b"x", b"word/x")),
    ),
    "document.Odt": (_zip(b"mimetype", content=OASIS + b"text"),),
    "document.Xls": (
        _at((0, OLE), (512, b"\xfd\xff\xff\xff"), (518, b"\2"), size=600),
        _at((0, OLE), (512, b"\x09\x08\x10\0\0\6\5\0"), size=600),
        _at((0, OLE), (1600, b"\xe2\0\0\0\\\0p\0\4\0\0Calc"), size=2200),
    ),
    "document.Xlsx": (_zip(b"xl/workbook.xml"), _zip(*CONTENT, b"xl/workbook.xml")),
    "document.Ods": (_zip(b"mimetype", content=OASIS + b"spreadsheet"),),
    "document.Ppt": (
        _at((0, OLE), (512, b"\xa0\x46\x1d\xf0"), size=600),
        _at((0, OLE), (512, b"\0\x6e\x1e\xf0"), size=600),
        _at((0, OLE), (512, b"\x0f\0\xe8\3"), size=600),
        _at((0, OLE), (512, b"\xfd\xff\xff\xff"), (518, b"\1"), size=600),
        _at((0, OLE), (2072, b"\0\xb9\x29\xe8\x11\0\0\0MS PowerPoint 97"), size=2200),
    ),
    "document.Pptx": (_zip(b"ppt/slides"), _zip(*CONTENT, b"ppt/presentation.xml")),
    "document.Odp": (_zip(b"mimetype", content=OASIS + b"presentation"),),
    "archive.Br": (b"\xce\xb2\xcf\x81\0",),
    "archive.Rpm": (b"\xed\xab\xee\xdb\3",),
    "archive.Epub": (_zip(b"mimetype", content=b"application/epub+zip"),),
    "archive.Zip": (_zip(b"a"), b"PK\5\6", b"PK\7\x08"),
    "archive.Tar": (_at((257, b"ustar"), size=512),),
    "archive.Rar": (b"Rar!\x1a\7\0", b"Rar!\x1a\7\1\0"),
    "archive.Gz": (b"\x1f\x8b\x08\0",),
    "archive.Bz2": (b"BZh9\0",),
    "archive.SevenZ": (b"7z\xbc\xaf'\x1c\0",),
    "archive.Pdf": (b"%PDF-1.7\n%\xe2", b"\xef\xbb\xbf%PDF-1.7\n%\xe2"),
    "archive.Exe": (b"MZ\x90\0",),
    "archive.Swf": (b"CWS\x0a", b"FWS\x0a"),
    "archive.Rtf": (b"{\\rtf1\0",),
    "archive.Nes": (b"NES\x1a",),
    "archive.Crx": (b"Cr24\3\0",),
    "archive.Cab": (b"MSCF\0", b"ISc(\0"),
    "archive.Eot": tuple(
        _at((8, version), (34, b"LP"), size=60) for version in (b"\2\0\1", b"\1\0\0", b"\2\0\2")
    ),
    "archive.Ps": (b"%!PS\0",),
    "archive.Xz": (b"\xfd7zXZ\0",),
    "archive.Sqlite": (b"SQLite format 3\0",),
    "archive.Deb": (AR + b"debian-binary \0",),
    "archive.Ar": (AR + b"x.o \0",),
    "archive.Z": (b"\x1f\xa0\0", b"\x1f\x9d\0"),
    "archive.Lzop": (b"\x89LZO\0\r\n\x1a\n",),
    "archive.Lz": (b"LZIP\1",),
    "archive.Elf": (_at((0, b"\x7fELF"), size=64),),
    "archive.Lz4": (b"\x04\x22\x4d\x18",),
    "archive.Zstd": (
        *(bytes([first]) + b"\xb5\x2f\xfd" for first in range(0x22, 0x29)),
        *(bytes([first]) + b"*M\x18\2\0\0\0xx\x28\xb5\x2f\xfd" for first in range(0x50, 0x60)),
    ),
    "application.Wasm": (b"\0asm\1\0\0\0",),
}

NEVER = {
    "archive.Dcm",  # it compares three bytes with four
}

EVERY_SAMPLE = [sample for samples in SAMPLES.values() for sample in samples]
