"""What changed from one snapshot to the next, as JSON values, and back.

The changes of a row are those of its fields that differ. A row in a field may be
``{"~": changes}``, and bytes ``{"~": [[offset, base64], ...]}``. In a list of rows, those that are
there as before are runs of ``[first, count]``, one that changed is ``{"~": changes, "of": index}``,
and the others are whole.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any

from engine.snapshot import FormatError, RowReader, field_names, to_value

PATCH = "~"
SOURCE = "of"
SLICE_BYTES = 64


def changes(old: Any, new: Any) -> dict[str, Any]:
    """The fields in which a row differs from another one of its kind."""
    names = field_names(new.__class__)
    pairs = ((name, getattr(old, name), getattr(new, name)) for name in names)
    return {
        name: _difference(before, after)
        for name, before, after in pairs
        if before is not after and before != after
    }


def changed(old: Any, data: object, reader: RowReader) -> Any:
    """The row that a row becomes with the changes.

    Raises:
        FormatError: They are not changes of such a row.
    """
    if not isinstance(data, Mapping):
        raise FormatError("changes are no object")
    kind, plain, values = old.__class__, {}, {}
    for name, value in data.items():
        # What another version has more is left to the reader.
        before: Any = getattr(old, name) if name in field_names(kind) else None
        if before is not None and isinstance(value, Mapping) and PATCH in value:
            values[name] = _patched(before, value[PATCH], reader)
        elif _is_rows(before) and isinstance(value, list):
            values[name] = _rows_read(kind, name, before, value, reader)
        else:
            plain[name] = value
    return dataclasses.replace(old, **reader.fields(kind, plain), **values)


def _difference(old: Any, new: Any) -> Any:
    if isinstance(new, bytes) and len(new) == len(old):
        return {PATCH: _patches(old, new)}
    if _is_row(old) and _is_row(new):
        return {PATCH: changes(old, new)}
    if _is_rows(old) and _is_rows(new):
        return _rows_written(old, new)
    return to_value(new)


def _is_row(value: object) -> bool:
    return dataclasses.is_dataclass(value)


def _is_rows(value: object) -> bool:
    return isinstance(value, tuple) and (not value or _is_row(value[0]))


def _patches(old: bytes, new: bytes) -> list[list[Any]]:
    """The slices that differ; neighbours are one."""
    patches: list[tuple[int, bytes]] = []
    for at in range(0, len(new), SLICE_BYTES):
        after = new[at : at + SLICE_BYTES]
        if old[at : at + SLICE_BYTES] == after:
            continue
        if patches and patches[-1][0] + len(patches[-1][1]) == at:
            patches[-1] = (patches[-1][0], patches[-1][1] + after)
        else:
            patches.append((at, after))
    return [[at, base64.b64encode(part).decode("ascii")] for at, part in patches]


def _patched(old: Any, data: object, reader: RowReader) -> Any:
    if _is_row(old):
        return changed(old, data, reader)
    if not isinstance(old, bytes) or not isinstance(data, list):
        raise FormatError("changes of something that is not there")
    new = bytearray(old)
    for patch in data:
        try:
            at, text = patch
            part = base64.b64decode(text, validate=True)
            is_inside = 0 <= at <= len(new) - len(part)
        except (TypeError, ValueError, binascii.Error) as error:
            raise FormatError("changes of bytes are not readable") from error
        if not is_inside:
            raise FormatError("changes of bytes that are not there")
        new[at : at + len(part)] = part
    return bytes(new)


def _key(row: Any) -> Hashable:
    """What a row in a list is known by, however it changes."""
    key: Hashable = row.key if hasattr(row, "key") else row.number
    return key


def _rows_written(old: tuple[Any, ...], new: tuple[Any, ...]) -> list[Any]:
    places = {_key(row): at for at, row in enumerate(old)}
    written: list[Any] = []
    run: list[int] | None = None
    for row in new:
        at = places.get(_key(row), -1)
        if at >= 0 and (old[at] is row or old[at] == row):
            if run is not None and run[0] + run[1] == at:
                run[1] += 1
            else:
                run = [at, 1]
                written.append(run)
            continue
        run = None
        is_known = at >= 0
        written.append({PATCH: changes(old[at], row), SOURCE: at} if is_known else to_value(row))
    return written


def _rows_read(
    kind: type[Any], name: str, old: tuple[Any, ...], data: list[object], reader: RowReader
) -> tuple[Any, ...]:
    rows: list[Any] = []
    for item in data:
        if isinstance(item, list):
            rows += _run(old, item)
        elif isinstance(item, Mapping) and PATCH in item:
            rows.append(changed(_run(old, [item.get(SOURCE), 1])[0], item[PATCH], reader))
        else:
            rows += reader.value(kind, name, [item])
    return tuple(rows)


def _run(old: tuple[Any, ...], run: list[object]) -> tuple[Any, ...]:
    match run:
        case [int(first), int(count)] if first >= 0 and count > 0 and first + count <= len(old):
            return old[first : first + count]
    raise FormatError("rows of before that are not there")
