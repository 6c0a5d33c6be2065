"""The entry point: one file a command group."""

import typer

from retouche.cli import (
    convert,
    curate,
    doctor,
    evaluate,
    jobs,
    keys,
    loop,
    pairs,
    report,
    runs,
    studio,
    train,
    up,
)

app = typer.Typer(
    name="retouche",
    help="Curate image preference pairs by critique and correction, and train diffusion models on them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("up")(up.up)
app.command("curate")(curate.curate)
app.command("train")(train.train)
app.command("evaluate")(evaluate.command)
app.command("loop")(loop.loop)
app.command("report")(report.report)
app.command("studio")(studio.studio)
app.command("recover")(jobs.recover)
app.command("doctor")(doctor.doctor)
app.add_typer(jobs.app, name="jobs", help="Inspect, follow, cancel and retry curation jobs.")
app.add_typer(
    runs.app, name="runs", help="Inspect, follow, cancel and retry training runs; fetch what they made."
)
app.add_typer(keys.app, name="keys", help="Make, list and revoke API keys.")
app.add_typer(pairs.app, name="pairs", help="Look at what came out, and take it away.")
app.add_typer(convert.app, name="convert", help="Published checkpoints to what the services load.")


if __name__ == "__main__":
    app()
