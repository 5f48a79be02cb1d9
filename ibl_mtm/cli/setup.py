"""Commands about the tool itself: configs, doctor."""

from typing import Annotated

import typer

from ibl_mtm.cli.app import Json, app, complete_configuration, print_json
from ibl_mtm.errors import UserError

__all__: list[str] = []


@app.command()
def configs(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A YAML file, or the name of a shipped one, to show.",
            autocompletion=complete_configuration,
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override settings.")
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="JSON Schema for editors: run or catalog."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List configurations; show one with all that it rests on; JSON Schema for editors."""
    from ibl_mtm.cli.terminal import show_configurations
    from ibl_mtm.config.catalog import CatalogFile
    from ibl_mtm.config.explain import explain_settings, explained_yaml, headline, settings_schema
    from ibl_mtm.config.yaml_settings import Settings
    from ibl_mtm.training.settings import (
        RunSettings,
        find_configuration,
        read_run_settings,
        shipped_configurations,
    )

    if schema is not None:
        models: dict[str, type[Settings]] = {"run": RunSettings, "catalog": CatalogFile}
        if schema not in models or name is not None:
            raise UserError("--schema is run or catalog, and stands alone")
        print_json(settings_schema(models[schema], f"ibl-mtm {schema}"))
        return
    if name is None:
        known = {one: headline(file) for one, file in shipped_configurations().items()}
        print_json(known) if as_json else show_configurations(known)
        return
    read_run_settings(name, settings or ())  # refuses what a training would refuse
    file = find_configuration(name)
    found = list(explain_settings(file, RunSettings, settings or ()))
    if as_json:
        rows = [{"key": ".".join(key), "value": value, "from": at} for key, value, at in found]
        print_json({"file": str(file), "settings": rows})
    else:
        typer.echo(f"# {file}\n{explained_yaml(found)}", nl=False)


@app.command()
def doctor(
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask whether the database answers.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell what this machine has, and what is missing: versions, devices, memory, database."""
    from ibl_mtm.cli.doctor import examine
    from ibl_mtm.cli.terminal import show_checks

    checks = examine(online=not offline)
    if as_json:
        print_json([check.to_json() for check in checks])
    else:
        show_checks(checks)
    if any(check.status == "broken" for check in checks):
        raise typer.Exit(1)
