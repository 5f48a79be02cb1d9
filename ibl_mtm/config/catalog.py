"""The catalog of datasets: where each comes from, how it is aligned, binned and split.

catalog = load_catalog()                     # data_catalog.yaml, from here upwards
demo = catalog.dataset("demo")
demo.align.event, demo.align.bin             # ('stimOn_times', 0.02)
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import AlyxSource
from ibl_mtm.config.yaml_settings import Settings, find_shipped, read_settings, shipped
from ibl_mtm.errors import UserError

__all__ = ["Catalog", "CatalogFile", "load_catalog"]

_CATALOG = "data_catalog.yaml"


@dataclass(frozen=True)
class Catalog:
    """Every dataset of one catalog file, by name."""

    path: Path
    datasets: Mapping[str, Dataset]
    found: bool = False
    """Whether it was found from the working directory upwards, and not named."""

    def dataset(self, name: str, *, offline: bool = False) -> Dataset:
        """Look a dataset up.

        Parameters
        ----------
        name
            One of `datasets`.
        offline
            Whether no database is asked.

        Raises
        ------
        UserError
            If there is no such dataset; or if a password would be sent to an address that only a
            catalog names which lay about in some folder.
        """
        if name in self.datasets:
            dataset = self.datasets[name]
            if isinstance(dataset.source, AlyxSource) and self.found and not offline:
                self._check_address(dataset.source)
            return dataset
        close = difflib.get_close_matches(name, self.datasets, n=1)
        known = ", ".join(sorted(self.datasets)) or "none"
        hint = f"did you mean '{close[0]}'?" if close else f"known datasets: {known}"
        raise UserError(f"no dataset '{name}' in {self.path}; {hint}")

    def _check_address(self, source: AlyxSource) -> None:
        own = shipped(_CATALOG)
        if self.path.resolve() == own.resolve():
            return
        sources = [d.source for d in read_settings(own, CatalogFile).datasets.values()]
        if source.url not in {s.url for s in sources if isinstance(s, AlyxSource)}:
            raise UserError(
                f"{self.path}, found from here upwards, would have the password in "
                f"{source.password_env} sent to {source.url}; if you know this catalog, "
                f"name it: --catalog {self.path}"
            )


class CatalogFile(Settings):
    """What a catalog may say."""

    datasets: dict[str, Dataset]


def load_catalog(path: Path | None = None) -> Catalog:
    """Read a catalog; relative paths in it start from the catalog's own folder.

    Parameters
    ----------
    path
        A YAML file. None: ``data_catalog.yaml``, from the working directory upwards, else the
        copy that is installed with the package.

    Raises
    ------
    UserError
        If the file cannot be read or a key or value in it does not fit; names the line.

    Examples
    --------
    >>> catalog = load_catalog()
    >>> catalog.dataset("demo").source.sessions
    4
    """
    found = path is None
    path = find_shipped(_CATALOG) if path is None else Path(path).expanduser()
    datasets = read_settings(path, CatalogFile).datasets
    return Catalog(path, {name: _anchored(d, path.parent) for name, d in datasets.items()}, found)


def _anchored(dataset: Dataset, folder: Path) -> Dataset:
    if dataset.source.path is None or str(dataset.source.path).startswith("$"):
        return dataset
    path = folder / dataset.source.path.expanduser()
    source = dataset.source.model_copy(update={"path": path})
    return dataset.model_copy(update={"source": source})
