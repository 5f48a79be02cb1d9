"""Where the sessions of a dataset come from, as a catalog says it: one class for each kind.

LocalSource(kind="local", path=Path("/data/ONE"))

What `ibl_mtm.ingest.sources` does with each kind is another matter.
"""

import re
from collections.abc import Mapping
from datetime import date as Date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from ibl_mtm.config.yaml_settings import Settings

__all__ = [
    "AlyxSource",
    "ArraysSource",
    "BrainsetsSource",
    "BucketSource",
    "BwmSource",
    "LocalSource",
    "NwbSource",
    "OwnFiles",
    "PhySource",
    "SimulatedSource",
    "Source",
    "SourceSettings",
]


class SourceSettings(Settings):
    """What every kind has: a name, and a folder for its files."""

    kind: str
    path: Path | None = None

    #: Settings on which nothing in the cache depends: where files lie, which other sessions are.
    elsewhere: ClassVar[frozenset[str]] = frozenset({"path"})

    def definition(self) -> dict[str, Any]:
        """All of it that decides what the cache holds of a session, as a plain JSON mapping."""
        return self.model_dump(mode="json", exclude=set(self.elsewhere))


class SimulatedSource(SourceSettings):
    """A simulated repeated-site experiment, made when first ingested."""

    kind: Literal["simulated"] = "simulated"
    sessions: int = Field(default=4, ge=1)
    units: int = Field(default=80, ge=10, le=50_000)
    trials: int = Field(default=240, ge=1)
    seed: int = Field(default=0, ge=0)
    scale: Literal["small", "full"] = "small"
    path: Path | None = Field(
        default=None, description="where its files are kept; beside the cache if absent"
    )

    elsewhere = frozenset({"path", "sessions"})

    @model_validator(mode="before")
    @classmethod
    def _default_to_full_size(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("scale") == "full":
            return {"units": 900, "trials": 600, **values}
        return values


class LocalSource(SourceSettings):
    """A folder in ONE's layout, with or without its cache tables."""

    kind: Literal["local"]
    path: Path


class AlyxSource(SourceSettings):
    """An Alyx database and the file server behind it, read through ONE.

    Files are those that carry `tag`, in the last revision up to `revision` where that is given;
    without either, the database's default revision. Sessions that no list names are those with
    an insertion that carries the tag. A session of which nothing carries it is refused, unless
    `untagged` says otherwise.
    """

    kind: Literal["alyx"]
    url: str
    data_server: str | None = Field(
        default=None, description="where the files are; by default where the database says"
    )
    username: str = Field(min_length=1)
    password_env: str = Field(
        default="IBL_MTM_PASSWORD", description="environment variable that holds the password"
    )
    tag: str | None = Field(default=None, min_length=1)
    revision: str | None = Field(default=None, min_length=1)
    untagged: Literal["refuse", "default"] = Field(
        default="refuse",
        description="what to do with a listed session of which nothing carries the tag: refuse it, "
        "or take its default revision",
    )
    leave_out: tuple[Literal["CRITICAL", "FAIL", "WARNING", "NOT_SET", "PASS"], ...] = Field(
        default=(),
        description="insertions of these qualities in Alyx are left out; all are kept by default, "
        "and `probe_qc` of each unit tells",
    )
    path: Path | None = Field(
        default=None,
        description="download folder; beside the cache if absent. One that begins with '$NAME' is "
        "found by each worker in its own environment",
    )
    timeout: float = Field(default=20.0, gt=0, description="s without an answer or a byte")
    attempts: int = Field(default=6, ge=1, description="of each request, before it has failed")

    elsewhere = frozenset(
        {"path", "data_server", "username", "password_env", "timeout", "attempts"}
    )

    def definition(self) -> dict[str, Any]:
        """See `SourceSettings`; left out is what is as it always was, since caches have kept it."""
        definition = super().definition()
        if self.untagged == "refuse":
            del definition["untagged"]
        if not self.leave_out:
            del definition["leave_out"]
        return definition

    @field_validator("revision", mode="before")
    @classmethod
    def _from_date(cls, revision: Any) -> Any:
        return revision.isoformat() if isinstance(revision, Date) else revision  # as YAML reads it

    @field_validator("url", "data_server")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        if address is not None and re.match(r"[^/]*//[^/]*@", address):
            # Whatever it is, it is not shown.
            raise ValueError(
                "no user and password inside of an address: give 'username', and 'password_env' "
                "as the environment variable with the password"
            )
        if address is not None and not re.match(r"https?://[^/]", address):
            raise ValueError(f"'{address}' is no address (https://…)")
        return address and address.rstrip("/")


class BucketSource(SourceSettings):
    """Files of a folder, or of a bucket's folder, from where they are downloaded first.

    An address given as `path` is taken for `url`.
    """

    url: str | None = Field(
        default=None, description="the bucket's folder; an address given as 'path' is taken for it"
    )
    path: Path | None = Field(
        default=None,
        description="the folder; of a bucket, where its files are kept: beside the cache if absent",
    )
    endpoint: str | None = Field(default=None, description="another server that speaks S3")
    anonymous: bool = Field(default=True, description="without credentials, as it is public")
    timeout: float = Field(default=20.0, gt=0, description="s until a server is reached")
    attempts: int = Field(default=6, ge=1, description="of each request, before it has failed")

    elsewhere = frozenset({"path", "url", "endpoint", "anonymous", "timeout", "attempts"})

    @model_validator(mode="before")
    @classmethod
    def _address_is_no_folder(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "://" in str(values.get("path") or ""):
            if values.get("url") is not None:
                raise ValueError("'path' and 'url' are two addresses; give one, and a folder")
            return {**values, "path": None, "url": str(values["path"])}
        return values

    @field_validator("url")
    @classmethod
    def _is_bucket(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"(s3|gs)://[^/@]+(/|$)", url):
            raise ValueError(f"'{url}' is no bucket (s3://…, gs://…)")
        return url and url.rstrip("/")

    @model_validator(mode="after")
    def _server_speaks_s3(self) -> Self:
        if self.endpoint is not None and (self.url or "").startswith("gs://"):
            raise ValueError("'endpoint' is for s3://…; a bucket of gs://… has none")
        return self


class BrainsetsSource(BucketSource):
    """The brain-wide map as BrainWideBench publishes it: one HDF5 file for each session.

    `path` is a folder of `BUILD/ibl_brain_wide_bench_2026/REGIME/EID.h5`, or the address of such
    a folder in a bucket (``s3://…``), whose files are downloaded one by one.
    """

    kind: Literal["brainsets"]
    build: Literal["all_units", "selected_units"] = "all_units"
    regime: Literal["eval", "pretrain"] = "pretrain"
    version: str = Field(
        default="0.1.0", description="derived_version of the files; those of another are refused"
    )

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if self.url is None and self.path is None:
            raise ValueError("give a 'path': a folder, or s3://brain-wide-bench/brainsets")
        return self


class BwmSource(BucketSource):
    """The brain-wide map's bulk release: good units and behaviour of 459 sessions, two archives.

    They are downloaded once, 9 GB, and read as they are. Sessions of animals that BrainWideBench
    evaluates are left out: this source is for pre-training and for questions.
    """

    kind: Literal["bwm"]
    url: str | None = Field(
        default="s3://ibl-brain-wide-map-public/resources/ibl-agent-data",
        description="the bucket's folder; null: only what is on disk",
    )
    behaviour: bool = Field(default=True, description="also wheel and whisker, 2.9 GB of the 9")
    evaluated_animals: Literal["leave_out", "use"] = "leave_out"

    elsewhere = BucketSource.elsewhere | {"evaluated_animals"}


class OwnFiles(SourceSettings):
    """Files of another program; which session they are of is told by their place, or here.

    Places are `SUBJECT/DATE`, `SUBJECT/DATE/NUMBER` or `SUBJECT_DATE`, with dates as YYYY-MM-DD.
    """

    path: Path
    subject: str | None = Field(default=None, min_length=1, description="where no place tells it")
    date: str | None = Field(
        default=None, pattern=r"^\d{4}-\d{2}-\d{2}$", description="where no place tells it"
    )
    lab: str = Field(default="lab", min_length=1)

    elsewhere = frozenset({"path", "subject", "date", "lab"})

    @field_validator("date", mode="before")
    @classmethod
    def _from_date(cls, day: Any) -> Any:
        return day.isoformat() if isinstance(day, Date) else day  # as YAML reads it


class PhySource(OwnFiles):
    """Folders as Phy and Kilosort leave them; those below one table of trials are one session."""

    kind: Literal["phy"]
    sampling_rate: float | None = Field(
        default=None, gt=0, description="samples per second; by default as params.py has it"
    )
    trials: str = Field(
        default="trials.csv",
        min_length=1,
        description="the session's table of trials (csv, tsv, parquet), times in s from the "
        "recording's first sample",
    )


class NwbSource(OwnFiles):
    """Files of Neurodata Without Borders, as DANDI has them: one session each."""

    kind: Literal["nwb"]
    trials: str = Field(default="trials", min_length=1, description="name of the table of trials")


class ArraysSource(SourceSettings):
    """Arrays that a program gave (`ibl_mtm.add_session`), told by a digest of all of them."""

    kind: Literal["arrays"]
    digest: str


Source = Annotated[
    SimulatedSource
    | LocalSource
    | AlyxSource
    | BrainsetsSource
    | BwmSource
    | PhySource
    | NwbSource
    | ArraysSource,
    Field(discriminator="kind"),
]
"""Any of them, by its `kind`."""
