"""What was found when a run's model was compared with its base, kept beside the run."""

from fastapi import APIRouter, Request

from gateway.callers import READ, SERVICES, TheCaller
from gateway.ownership import OwnRun, check_images
from retouche.contract.evaluation import Evaluation
from retouche.errors import Conflict
from retouche.store import ObjectStore, digest, run_path

router = APIRouter(tags=["runs"])


@router.post("/v1/runs/{run_id}/evaluations", status_code=201, dependencies=[SERVICES])
async def keep(run_id: OwnRun, evaluation: Evaluation, caller: TheCaller, request: Request) -> Evaluation:
    """Keep what somebody found when comparing the run's model with its base; images must be in the store."""
    if evaluation.run != run_id:
        raise Conflict(f"this is an evaluation of {evaluation.run}, not of {run_id}")
    drawn = {image for found in evaluation.comparisons for image in (found.base, found.tuned)}
    await check_images(request, caller.tenant, drawn)
    content = evaluation.model_dump_json().encode()
    name = digest(content).removeprefix("sha256:")
    await request.app.state.store.create(run_path(run_id, f"evaluations/{name}.json"), content)
    return evaluation


@router.get("/v1/runs/{run_id}/evaluations", dependencies=[READ])
async def evaluations(run_id: OwnRun, request: Request) -> list[Evaluation]:
    """Every evaluation of the run that was kept, those with most prompts first."""
    store: ObjectStore = request.app.state.store
    paths = [path async for path in store.paths(run_path(run_id, "evaluations"))]
    kept = [Evaluation.model_validate_json(await store.get(path)) for path in sorted(paths)]
    return sorted(kept, key=lambda evaluation: -evaluation.prompts)
