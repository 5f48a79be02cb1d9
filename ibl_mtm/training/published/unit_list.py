"""The units of published recordings, in their order: a CSV file of a user's.

units = read_units(Path("units.csv"))
units["6713a4a7-faed-4df2-acab-ee4e63326f8d"]       # uuids, in the order of the columns there
"""

from pathlib import Path

import pandas as pd

from ibl_mtm.errors import UserError

__all__ = ["read_units"]


def read_units(file: Path) -> dict[str, list[str]]:
    """Units of each session, in order, of a CSV file with columns eid and uuid.

    Raises
    ------
    UserError
        If it cannot be read, lacks a column, or names a unit twice or none at all.
    """
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{file} is no CSV file: {str(error).strip().splitlines()[0]}") from None
    missing = {"eid", "uuid"} - set(table.columns)
    if missing:
        has = ", ".join(map(str, table.columns))
        raise UserError(f"{file} lacks the column {' and '.join(sorted(missing))}; it has {has}")
    if table.empty:
        raise UserError(f"{file} names no unit")
    table = table[["eid", "uuid"]].apply(lambda column: column.str.strip().str.lower())
    for row, (eid, uuid) in enumerate(table.itertuples(index=False), start=2):
        if not eid or not uuid:
            raise UserError(f"{file}, line {row}: an empty {'uuid' if eid else 'eid'}")
    if (twice := table[table.duplicated("uuid")]).size:
        raise UserError(f"{file}: unit {twice.uuid.iloc[0]} stands there twice")
    return {str(eid): rows.uuid.tolist() for eid, rows in table.groupby("eid", sort=False)}
