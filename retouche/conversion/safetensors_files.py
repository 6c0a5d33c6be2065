"""safetensors files as they lie on the disk: headers read, tensors copied byte for byte.

A file is 8 bytes, the length of its header (little-endian); the header, JSON of each tensor's dtype, shape
and place in the data; the data. So tensors are renamed in constant memory, whatever their precision.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from retouche.errors import BadRequest

INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")  # how torch's files and plain pickles begin
_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit
_CHUNK = 16 * 2**20  # bytes in memory at a time


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file: `begin` and `size` in bytes; its last row is to follow `repeated` more times."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    size: int
    repeated: int = 0

    def with_rows(self, rows: int) -> "Tensor":
        """The same with at least `rows` rows."""
        return replace(self, repeated=max(0, rows - self.shape[0]))

    @property
    def row(self) -> int:
        """Bytes of one row."""
        return self.size // self.shape[0]


class _Entry(BaseModel):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Index(BaseModel):
    weight_map: dict[str, str]


_HEADER: TypeAdapter[dict[str, _Entry]] = TypeAdapter(dict[str, _Entry])


def tensors_in(folder: Path) -> dict[str, Tensor]:
    """The tensors of all safetensors files of a folder, by name.

    Raises:
        BadRequest: there are none, a file of the index is missing, cut short, or no safetensors file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [path.name for path in sorted(folder.glob("*")) if path.suffix in _PICKLES]
        found = f"; {pickles[0]} is a pickle, which may run code when it is read" if pickles else ""
        raise BadRequest(f"{folder} holds no safetensors files{found}")
    if absent := sorted(_indexed(folder) - {path.name for path in files}):
        raise BadRequest(f"{folder / absent[0]} is in {INDEX} but not there: {len(absent)} files are missing")
    return {name: tensor for path in files for name, tensor in _read(path)}


def write_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors to files named as those they come from, with an index where there are several."""
    files = groupby(sorted(tensors.items(), key=lambda item: (item[1].file, item[1].begin)), _file_of)
    written: dict[str, str] = {}
    for source, content in files:
        written |= dict.fromkeys(_write(folder / source.name, dict(content)), source.name)
    if len(set(written.values())) > 1:
        total = sum(tensor.size + tensor.repeated * tensor.row for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(written.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _file_of(item: tuple[str, Tensor]) -> Path:
    return item[1].file


def _indexed(folder: Path) -> set[str]:
    """The files that the index names, where there is one."""
    path = folder / INDEX
    if not path.is_file():
        return set()
    try:
        return set(_Index.model_validate_json(path.read_bytes()).weight_map.values())
    except ValidationError as error:
        raise BadRequest(f"{path} is no index of safetensors files: {error.errors()[0]['msg']}") from None


def _read(path: Path) -> Iterator[tuple[str, Tensor]]:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if start.startswith(_PICKLED):
            raise BadRequest(f"{path} is a pickle under another name; it may run code when it is read")
        if len(start) < 8 or length > min(size, _LONGEST_HEADER):
            raise BadRequest(f"{path} is not a safetensors file, or is cut short")
        header = file.read(length)
    try:
        content = json.loads(header)
        content.pop("__metadata__", None)
        entries = _HEADER.validate_python(content)
    except (ValueError, AttributeError, TypeError):
        raise BadRequest(f"{path} is not a safetensors file: its header cannot be read") from None
    needed = 8 + length + max((entry.data_offsets[1] for entry in entries.values()), default=0)
    if size != needed:
        raise BadRequest(f"{path} has {size} bytes, not the {needed} of its header: fetch it again")
    for name, entry in entries.items():
        begin, end = entry.data_offsets
        yield name, Tensor(path, entry.dtype, entry.shape, 8 + length + begin, end - begin)


def _write(path: Path, tensors: Mapping[str, Tensor]) -> Iterable[str]:
    """Write one file; returns the names of what is in it."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.size + tensor.repeated * tensor.row
        shape = [tensor.shape[0] + tensor.repeated, *tensor.shape[1:]] if tensor.repeated else tensor.shape
        header[name] = {"dtype": tensor.dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # data aligned, as the format wants it
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors.values():
            file.writelines(_content(tensor))
    return tensors


def _content(tensor: Tensor) -> Iterator[bytes]:
    with tensor.file.open("rb") as file:
        file.seek(tensor.begin)
        for done in range(0, tensor.size, _CHUNK):
            yield file.read(min(_CHUNK, tensor.size - done))
        if tensor.repeated:
            file.seek(tensor.begin + tensor.size - tensor.row)
            yield file.read(tensor.row) * tensor.repeated
