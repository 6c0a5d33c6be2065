"""The page: a tab for each thing to look at, and the visitor's key above them."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
from fastapi import FastAPI

from studio import assets, jobs, overview, pairs, runs
from studio.gateways import Gateways
from studio.job_start import MOST_BYTES
from studio.live import Live
from studio.settings import Settings

_PAGE = Path(__file__).parent / "page"
_AT_ONCE = 16  # visitors whose same button is answered at the same time

# Kept by the browser for this window alone, and sent with each request; the server stores no key.
_REMEMBER = "(value) => { sessionStorage.setItem('retouche-NAME', value || ''); return value; }"
_RECALL = "() => sessionStorage.getItem('retouche-NAME') || ''"


def create_app(settings: Settings | None = None) -> FastAPI:
    """The studio's application, with `/healthz` for whoever watches its container."""
    settings = settings or Settings()
    app = FastAPI(title="Retouche studio", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    app.include_router(assets.router)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        build(settings),
        path="/",
        theme=gr.themes.Default(
            primary_hue="blue",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ).set(  # Gradio's own greys are too pale to read
            block_info_text_color="*neutral_600",
            block_info_text_color_dark="*neutral_300",
            input_placeholder_color="*neutral_500",
            input_placeholder_color_dark="*neutral_400",
        ),
        css=(_PAGE / "style.css").read_text(),
        head="".join(f"<script>{script.read_text()}</script>" for script in sorted(_PAGE.glob("*.js"))),
        max_file_size=MOST_BYTES,
        footer_links=[],
        run_history=False,  # the browser would keep what was submitted, keys included
        ssr_mode=False,
        show_error=True,
    )
    return mounted


def build(settings: Settings) -> gr.Blocks:
    """The page, on the gateway that the settings name."""
    gateways = Gateways(settings.url)
    page: gr.Blocks
    exports = Path(tempfile.mkdtemp(prefix="retouche-studio-"))
    with gr.Blocks(
        title="Retouche studio", analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)
    ) as page:
        with gr.Row(elem_classes="top"):
            gr.HTML(f"<h1>Retouche studio</h1><p class='note'>of <code>{settings.url}</code></p>")
            key = gr.Textbox(
                label="API key",
                type="password",
                placeholder="none needed on an open gateway",
                elem_id="key",
                max_length=200,
                min_width=240,
            )
        with gr.Tabs() as tabs:
            with gr.Tab("Overview", id="overview") as overview_tab:
                looking = overview.build(gateways, key)
            with gr.Tab("Jobs", id="jobs") as jobs_tab:
                on_jobs = jobs.build(gateways, key)
            with gr.Tab("Pairs", id="pairs") as pairs_tab:
                on_pairs = pairs.build(gateways, key, exports)
            with gr.Tab("Runs", id="runs") as runs_tab:
                on_runs = runs.build(gateways, key)
        _look_only_at_what_is_shown(
            [(overview_tab, looking), (jobs_tab, on_jobs.live), (pairs_tab, None), (runs_tab, on_runs.live)]
        )
        page.load(**looking.look)
        jobs_tab.select(**on_jobs.name_deployed, show_progress="hidden", queue=False)
        pairs_tab.select(**on_pairs.list_jobs)
        runs_tab.select(**on_runs.list_jobs, show_progress="hidden", queue=False)
        on_jobs.show_pairs.click(
            lambda job: (gr.Tabs(selected="pairs"), job), on_jobs.chosen, [tabs, on_pairs.job]
        ).then(**on_pairs.list_jobs)
        key.change(None, key, None, js=_REMEMBER.replace("NAME", "key"))
        page.load(None, None, key, js=_RECALL.replace("NAME", "key"))
    page.queue(default_concurrency_limit=_AT_ONCE, api_open=False)
    for event in page.fns.values():
        event.api_visibility = "private"  # the gateway has an API; a description of this one doubles the page
    return page


def _look_only_at_what_is_shown(tabs: Sequence[tuple[gr.Tab, Live | None]]) -> None:
    """A tab that is opened is looked at at once; the timers of all others rest."""
    timers = [live.timer for _, live in tabs if live]
    for tab, live in tabs:
        wanted = [live is not None and timer is live.timer for timer in timers]
        tab.select(lambda wanted=wanted: [gr.Timer(active=one) for one in wanted], None, timers)
        if live:
            tab.select(**live.look)
