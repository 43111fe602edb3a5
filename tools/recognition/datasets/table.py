"""Tables of data sets: the rows of an Excel file, by the names of their columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown

TABLE_SUFFIXES = frozenset({".csv", ".xls", ".xlsm", ".xlsx"})
# Notes stand above the header in some tables: 13 rows in SAMM's. Chosen by judgement.
_HEADER_WITHIN_ROWS = 40
_REMEDY = "give the table as it was published, by --table FILE"
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.0*)?")

Columns = Mapping[str, Sequence[str]]
"""Our name of a column to the names that tables give it, in small letters and digits only."""

COLUMNS: Columns = MappingProxyType(
    {
        "subject": ("subject",),
        "video": ("filename",),
        "onset": ("onsetframe", "onset"),
        "apex": ("apexframe", "apex"),
        "offset": ("offsetframe", "offset"),
        "units": ("actionunits",),
        "emotion": ("estimatedemotion", "emotion"),
    }
)
"""The columns of CASME II, MMEW and SAMM."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        table: Name of the file.
        number: Of the row in the sheet, from 1.
        index: Of the row below the header, from 0, as people who correct tables count.
        cells: Our names of the columns to what the cells hold; None where they are empty.
    """

    table: str
    number: int
    index: int
    cells: Mapping[str, Any]

    def text(self, column: str) -> str:
        """The text of a cell, as a person reads it; empty if there is none."""
        return text_of(self.cells.get(column))

    def number_in(self, column: str) -> int | None:
        """The whole number in a cell; None for anything else."""
        text = self.text(column)
        return int(float(text)) if _NUMBER.fullmatch(text) else None

    def is_number(self, column: str) -> bool:
        """Whether the spreadsheet took the cell for a number."""
        return isinstance(self.cells.get(column), int | float)


def text_of(cell: object) -> str:
    """The text of a cell; whole numbers without decimals."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def plain_name(cell: object) -> str:
    """The name of a column in small letters and digits only."""
    return "".join(filter(str.isalnum, text_of(cell).casefold()))


def read_rows(path: Path, columns: Columns, needed: Sequence[str]) -> list[Row]:
    """The rows below the header of a table's first sheet, without the empty ones.

    The header is the first row that names all of `needed`.

    Raises:
        InputError: The table cannot be read or has no such header.
    """
    sheet = read_sheets(path)[0]
    for place, cells in enumerate(sheet[:_HEADER_WITHIN_ROWS]):
        found = columns_of(cells, columns)
        if all(name in found for name in needed):
            return rows_of(path, sheet, place + 1, found)
    raise InputError(
        f"{shown(path)} has no row that names the columns "
        f"{', '.join(columns[name][0] for name in needed)}: {_REMEDY}"
    )


def columns_of(cells: Sequence[Any], columns: Columns) -> dict[str, int]:
    """Where the columns are in a header, by our names."""
    names = [plain_name(cell) for cell in cells]
    return {
        name: names.index(alias)
        for name, aliases in columns.items()
        for alias in reversed(aliases)
        if alias in names
    }


def rows_of(
    path: Path, sheet: Sequence[Sequence[Any]], start: int, places: Mapping[str, int]
) -> list[Row]:
    """The rows of a sheet from `start` on, where columns are at `places`."""
    rows = []
    for index, cells in enumerate(sheet[start:]):
        found = {name: cells[at] if at < len(cells) else None for name, at in places.items()}
        if any(text_of(cell) for cell in found.values()):
            rows.append(Row(path.name, start + index + 1, index, found))
    return rows


def read_sheets(path: Path) -> list[list[tuple[Any, ...]]]:
    """The cells of all sheets of a table, as they are.

    Raises:
        InputError: The table cannot be read.
    """
    readers: dict[str, Callable[[Path], Iterator[list[tuple[Any, ...]]]]] = {
        ".csv": _csv_sheets,
        ".xls": _old_excel_sheets,
    }
    read = readers.get(path.suffix.casefold(), _excel_sheets)
    try:
        sheets = list(read(path))
    except (InputError, MemoryError):
        raise
    except OSError as error:
        raise InputError(
            f"table {shown(path)} cannot be read ({error.strerror or error}): {_REMEDY}"
        ) from error
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise InputError(f"{shown(path)} is no table, or damaged: {_REMEDY}") from error
    if not sheets:
        raise InputError(f"{shown(path)} holds no sheet: {_REMEDY}")
    return sheets


def _excel_sheets(path: Path) -> Iterator[list[tuple[Any, ...]]]:
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise InputError(
            f"reading {path.name} needs openpyxl: pip install -r requirements-train.txt"
        ) from error
    # Values only: formulas are not run, and their last results are in the file.
    book = load_workbook(path, read_only=True, data_only=True)
    try:
        for sheet in book.worksheets:
            sheet.reset_dimensions()  # some programs write wrong ones, and cells would be missed
            yield [tuple(row) for row in sheet.iter_rows(values_only=True)]
    finally:
        book.close()


def _old_excel_sheets(path: Path) -> Iterator[list[tuple[Any, ...]]]:
    try:
        import xlrd
    except ImportError as error:
        raise InputError(
            f"reading {path.name} needs xlrd: pip install -r requirements-train.txt, or save the "
            "table as .xlsx"
        ) from error
    with xlrd.open_workbook(str(path), on_demand=True) as book:
        for sheet in book.sheets():
            yield [
                tuple(None if cell == "" else cell for cell in sheet.row_values(row))
                for row in range(sheet.nrows)
            ]


def _csv_sheets(path: Path) -> Iterator[list[tuple[Any, ...]]]:
    text = path.read_text(encoding="utf-8-sig")
    yield [tuple(cell or None for cell in row) for row in csv.reader(io.StringIO(text, newline=""))]
