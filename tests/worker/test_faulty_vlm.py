"""Critique and instruction behind a vision-language server in trouble: fewer pairs, never a broken one."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
import yaml

from bench.stub_services import create_app
from retouche.client.stages import StageClient
from retouche.contract.jobs import CurationSpec
from retouche.contract.stages import STAGES, Critique
from retouche.profile import FOLDER
from retouche.store import ObjectStore
from services.critique import app as critique
from services.critique.settings import Settings as CritiqueSettings
from services.instruction import app as instruction
from services.instruction.settings import Settings as InstructionSettings
from tests.live import live
from tests.services.faulty_vlm import (
    GOOD,
    MODEL,
    FaultyServer,
    busy,
    dying,
    failing,
    garbage,
    good,
    out_of_schema,
    slow,
    truncated,
)
from tests.services.ready import until_ready
from worker.curate import ShardPrompts, curate
from worker.limits import Limit
from worker.prepare import prepare

PASSING = {step.__name__: (step, good) for step in (dying, failing, busy, slow, truncated, out_of_schema)}
LASTING = {f"always {step.__name__}": (step,) for step in (truncated, out_of_schema, garbage)}
SCRIPTS = {**LASTING, **PASSING, "well": (good,)}
PROMPTS = [f"a square, {trouble}" for trouble in SCRIPTS]


@pytest.fixture
def services(store: ObjectStore, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The address of each stage: real critique and instruction services, stubs for the others."""
    with ExitStack() as stack:
        profile = _profile(tmp_path, stack.enter_context(live(FaultyServer(SCRIPTS).app)))
        folder = str(tmp_path / "store")
        critic = critique.create_app(CritiqueSettings(store=folder, profile=profile, vlm_timeout_seconds=2))
        instructor = instruction.create_app(
            InstructionSettings(store=folder, profile=profile, vlm_timeout_seconds=2)
        )
        urls = dict.fromkeys(STAGES, stack.enter_context(live(create_app(store))))
        urls["critique"] = stack.enter_context(live(critic))
        urls["instruction"] = stack.enter_context(live(instructor))
        for stage in ("critique", "instruction"):
            with httpx2.Client(base_url=urls[stage]) as client:
                until_ready(client)
        yield urls


def _profile(folder: Path, vlm: str) -> str:
    profile = yaml.safe_load((FOLDER / "shapes.yaml").read_text())
    for stage in ("critique", "instruction"):
        profile[stage] |= {"backend": "openai", "base_url": f"{vlm}/v1", "model": MODEL}
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    return str(folder / "profile.yaml")


def test_what_passes_costs_nothing_and_what_lasts_is_counted(services: dict[str, str]) -> None:
    async def run() -> None:
        limits = {stage: Limit(stage, 32, patience_seconds=30) for stage in STAGES}
        async with StageClient(services, timeout_seconds=30) as client:
            curation = await prepare(CurationSpec(prompts=tuple(PROMPTS)), client, limits)
            pairs, traces = await curate(curation, ShardPrompts(PROMPTS, 0, [0] * len(PROMPTS)))
        lost = {trace.prompt for trace in traces if trace.dropped == "critique_failed"}
        assert lost == {f"a square, {trouble}" for trouble in LASTING}
        assert curation.report.dropped == {"critique_failed": len(LASTING)}
        assert {pair.prompt for pair in pairs} == set(PROMPTS) - lost
        for pair in pairs:
            assert pair.critique == Critique.model_validate_json(GOOD["Critique"])
            assert pair.instruction.text == "redder by 1"

    asyncio.run(run())
