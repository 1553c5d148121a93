"""Ways to break a valid file: by its bytes, by its words, and by the structure that its format has."""

import gzip
import io
import json
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random

import torch

Mutation = Callable[[Random, bytes], bytes]

NUMBERS = (
    "0", "-1", "-5", "1", "3", "255", "256", "65536", "4000000000", "1e9", "1e39", "1e400", "nan", "inf", "-inf", "0.5",
    "1" * 400, "99999999999999999999",
)  # fmt: skip
VALUES = (
    None, True, "", "x", "x" * 5000, "../../x", "/dev/zero", "a\nb", 0, -1, -5, 3, 1e9, 1e300, 10**30, float("nan"),
    float("inf"), [], [0], [[]], {}, {"a": 1}, [[1, 2], [3]], [None] * 3, [0] * 16, [[0] * 4] * 4,
)  # fmt: skip
WORDS = (
    "${a}", "${oc.env:HOME}", "${mul:1,x}", "${mul:ab,1000000000}", "${div:1,0}", "${oc.decode:'['}", "${",
    "&a [*a]", "!!python/object:os.system", "*b", "? ", "null", "[", "{", "'", "- - -", "\t", "\u0085", "1e999", ".inf",
)  # fmt: skip
EDGES = (
    b"\0" * 8, b"\0" * 6 + b"\xf8\x7f", b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f",
    b"\x01\0\0\0", b"\0\0\xc0\x7f", b"\0\0\x80\x7f",
)  # fmt: skip
_BROKEN = (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, zlib.error, RuntimeError)


def any_bytes(rng: Random, data: bytes) -> bytes:
    """Flip, set, cut, repeat or move a few bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        place = rng.randrange(len(out)) if out else 0
        match rng.randrange(7):
            case 0 if out:
                out[place] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[place] = rng.randrange(256)
            case 2:
                edge = rng.choice(EDGES)
                out[place : place + len(edge)] = edge
            case 3:
                del out[place:]
            case 4:
                del out[place : place + rng.randrange(1, 64)]
            case 5:
                out[place:place] = out[place : place + rng.randrange(1, 64)]
            case _:
                out[place:place] = rng.randbytes(rng.randrange(1, 9))
    return bytes(out)


def words(rng: Random, data: bytes) -> bytes:
    """Change numbers, words and lines of a text."""
    text = data.decode("latin-1")
    for _ in range(rng.choice((1, 1, 2, 3))):
        lines, tokens = text.split("\n"), list(re.finditer(r"[^\s,:\[\]{}=]+", text))
        place = rng.randrange(len(lines))
        match rng.randrange(6):
            case 0 if tokens:
                token = rng.choice(tokens)
                text = text[: token.start()] + rng.choice((*NUMBERS, *WORDS)) + text[token.end() :]
                continue
            case 1 if tokens:
                token, other = rng.choice(tokens), rng.choice(tokens)
                text = text[: token.start()] + other[0] + text[token.end() :]
                continue
            case 2:
                del lines[place]
            case 3:
                lines.insert(place, rng.choice(lines))
            case 4:
                lines[place] += rng.choice((*NUMBERS, *WORDS))
            case _:
                lines.insert(place, lines.pop(rng.randrange(len(lines))))
        text = "\n".join(lines)
    return text.encode("latin-1", "replace")


def json_values(rng: Random, data: bytes) -> bytes:
    """Replace, remove or repeat values of a JSON document."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return any_bytes(rng, data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        document = _changed(rng, document)
    return json.dumps(document).encode()


def _changed(rng: Random, node: object) -> object:
    is_branch = isinstance(node, dict | list) and node
    if not is_branch or rng.random() < 0.15:
        return rng.choice((*VALUES, [node] * 3, {"x": node}))
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key, copy = rng.choice(keys), node.copy()
    if rng.random() < 0.1:
        del copy[key]
    elif rng.random() < 0.1:
        copy[key] = node[rng.choice(keys)]
    else:
        copy[key] = _changed(rng, node[key])
    return copy


def in_glb(inner: Mutation) -> Mutation:
    """Change the document of a glTF binary; its length stays true."""

    def mutate(rng: Random, data: bytes) -> bytes:
        if len(data) < 20:  # cut short by an earlier change
            return any_bytes(rng, data)
        (size,) = struct.unpack_from("<I", data, 12)
        text = inner(rng, data[20 : 20 + size])
        text += b" " * (-len(text) % 4)
        return data[:12] + struct.pack("<I", len(text)) + data[16:20] + text + data[20 + size :]

    return mutate


def in_gzip(rng: Random, data: bytes) -> bytes:
    """Change what a gzip stream holds."""
    try:
        inner = gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return any_bytes(rng, data)
    return gzip.compress(_at_the_start(rng, inner), 1)


def _at_the_start(rng: Random, data: bytes) -> bytes:
    """Change a header more often than the rows behind it."""
    size = min(len(data), rng.choice((16, 64, len(data) or 1)))
    return any_bytes(rng, data[:size]) + data[size:] if rng.random() < 0.8 else any_bytes(rng, data)


def header(rng: Random, data: bytes) -> bytes:
    """Change the first bytes, where counts and sizes stand."""
    place = rng.randrange(min(len(data), rng.choice((16, 48, 128, 4200))) or 1)
    edge = rng.choice((*EDGES, rng.randbytes(rng.choice((1, 2, 4)))))
    return data[:place] + edge + data[place + len(edge) :]


def in_zip(inner: Mutation) -> Mutation:
    """Change one member of a zip archive; those that end in ``.json`` or are pickles by ``inner``."""

    def mutate(rng: Random, data: bytes) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
        except _BROKEN:
            return any_bytes(rng, data)
        names = list(members)
        structured = [name for name in names if name.endswith((".json", ".pkl"))]
        name = rng.choice(structured if structured and rng.random() < 0.7 else names) if names else "x"
        how = rng.randrange(10)
        if how == 0:
            members.pop(name, None)
        elif how == 1:
            members[name] = members[rng.choice(names)] if names else b""
        else:
            members[name] = (inner if name in structured else any_bytes)(rng, members.get(name, b""))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for each, content in members.items():
                archive.writestr(each, content)
        return buffer.getvalue()

    return mutate


def tensors(rng: Random, data: bytes) -> bytes:
    """Change shapes, kinds and names of the tensors of a checkpoint."""
    try:
        document = torch.load(io.BytesIO(data), weights_only=True)
    except Exception:  # noqa: BLE001  # an input that is broken already
        return any_bytes(rng, data)
    buffer = io.BytesIO()
    try:
        torch.save(_other_tensors(rng, document), buffer)
    except (RuntimeError, pickle.PicklingError, TypeError, NotImplementedError):
        return any_bytes(rng, data)
    return buffer.getvalue()


def _other_tensors(rng: Random, node: object) -> object:
    if isinstance(node, torch.Tensor):
        return rng.choice(_TENSORS)(node)
    if not isinstance(node, dict | list | tuple) or not node or rng.random() < 0.1:
        return rng.choice((*VALUES, torch.zeros(3), torch.zeros(0)))
    if isinstance(node, tuple):
        return tuple(_other_tensors(rng, list(node)))
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    copy, key = node.copy(), rng.choice(keys)
    if rng.random() < 0.1:
        del copy[key]
        return copy
    copy[key] = _other_tensors(rng, node[key])
    return copy


_TENSORS = (
    lambda t: t.reshape(-1),
    lambda t: t[None],
    lambda t: t.T if t.ndim == 2 else t.reshape(-1, 1),
    lambda t: t[: len(t) // 2] if t.ndim else t,
    lambda t: t[:0] if t.ndim else t,
    lambda t: t.reshape(-1)[0] if t.numel() else t,
    lambda t: t.reshape(-1)[:1].expand(10**9) if t.numel() else t,
    lambda t: t.to(torch.int64),
    lambda t: t.to(torch.bool),
    lambda t: t.to(torch.complex64),
    lambda t: t.to(torch.float16),
    lambda t: t.to(torch.float64) * float("nan"),
    lambda t: t.float().to_sparse(),
    lambda t: torch.empty(t.shape, device="meta"),
    lambda t: torch.cat([t, t], -1) if t.ndim else t,
    lambda t: torch.zeros(len(t) if t.ndim else 1, 0),
    lambda t: t[..., :1] if t.ndim else t,
    lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.quint8),
    lambda t: torch.nn.Parameter(t.float()),
)


def png_chunks(rng: Random, data: bytes) -> bytes:
    """Change one chunk of a PNG, its checksum put right, so that the change reaches the decoder."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    if not chunks:
        return any_bytes(rng, data)
    index = rng.randrange(len(chunks))
    kind, body = chunks[index]
    chunks[index] = (rng.choice((kind, kind, kind, b"tEXt", b"iCCP", b"zTXt", b"acTL", b"fdAT", b"tRNS", b"PLTE")),
                     any_bytes(rng, body))  # fmt: skip
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), chunks[rng.randrange(len(chunks))])
    joined = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:8] + joined


def npy_header(rng: Random, data: bytes) -> bytes:
    """Change the words of a NumPy header."""
    size = 10 + int.from_bytes(data[8:10], "little")
    text = words(rng, data[10:size])
    return data[:8] + len(text).to_bytes(4, "little")[:2] + text + data[size:]


def one_of(*mutations: Mutation) -> Mutation:
    """Each of some mutations as often as the others."""
    return lambda rng, data: rng.choice(mutations)(rng, data)
