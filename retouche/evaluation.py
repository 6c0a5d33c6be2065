"""Did the model get better? Base and tuned model draw the same prompts from the same seeds, and are compared.

Every reward model scores every image; a truth, where there is one, scores them too. Intervals are
bootstrapped over prompts, since images of one prompt are not independent.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from statistics import fmean
from typing import TypeVar

from retouche.client import AsyncRetouche
from retouche.contract.evaluation import TRUTH, Comparison, Evaluation, Interval, Judgement, StyleAlignment
from retouche.contract.jobs import JobId
from retouche.contract.payload import ImageRef, RunId
from retouche.contract.stages import MOST_COMPARED, DistanceRequest, GenerateRequest, RewardRequest
from retouche.errors import BadPrompts, BadRequest, RetoucheError
from retouche.together import together

RESAMPLES = 2000
AT_ONCE = 16
_ATTEMPTS = 60

Truth = Callable[[bytes, str], float]  # encoded image, prompt -> how right it is, 0 to 1
Told = Callable[[int, int], None]
ResultT = TypeVar("ResultT")


async def evaluate(
    client: AsyncRetouche,
    run_id: RunId,
    prompts: Sequence[str],
    *,
    images_per_prompt: int = 1,
    seed: int = 0,
    truth: Truth | None = None,
    style: JobId | None = None,
    told: Told = lambda _done, _of: None,
) -> Evaluation:
    """Draw, score and compare; with `style`, a curation job, also by how near the job's chosen images are.

    Raises:
        BadPrompts: there are none, or one that `truth` cannot judge.
        BadRequest: too few or too many images for the distances that `style` asks for.
        RunNotFound, Conflict: the run has no LoRA to wear.
    """
    drawings = [(prompt, seed + index) for prompt in prompts for index in range(images_per_prompt)]
    if not drawings:
        raise BadPrompts("there are no prompts to evaluate on")
    await client.run(run_id)  # before anything is drawn
    styled = await _style_images(client, style, len(drawings)) if style else []
    slots, done = asyncio.Semaphore(AT_ONCE), 0

    async def one(prompt: str, drawn_from: int) -> Comparison:
        nonlocal done
        async with slots:
            comparison = await _compare(client, run_id, prompt, drawn_from, truth)
        done += 1
        told(done, len(drawings))
        return comparison

    comparisons = await together(one(*drawing) for drawing in drawings)
    return Evaluation(
        run=run_id,
        prompts=len(prompts),
        images_per_prompt=images_per_prompt,
        seed=seed,
        judgements=judge(comparisons),
        comparisons=comparisons,
        style=await _alignment(client, style, styled, comparisons) if style else None,
    )


async def _style_images(client: AsyncRetouche, job: JobId, drawn: int) -> list[ImageRef]:
    """The job's chosen images, the first MOST_COMPARED; BadRequest where they, or those drawn, do not do."""
    if not 2 <= drawn <= MOST_COMPARED:
        raise BadRequest(
            f"style: {drawn:,} images would be drawn of each model, and a distance takes 2 to "
            f"{MOST_COMPARED:,}; give other prompts, or another number of images for each"
        )
    images = dict[ImageRef, None]()
    async for pair in client.pairs(job):
        images[pair.chosen] = None
        if len(images) == MOST_COMPARED:
            break
    if len(images) < 2:
        raise BadRequest(f"style: {job} has {len(images)} chosen images, and a distance needs two at least")
    return list(images)


async def _alignment(
    client: AsyncRetouche, job: JobId, styled: list[ImageRef], comparisons: Sequence[Comparison]
) -> StyleAlignment:
    base, tuned = [
        (await _patiently(partial(client.stages.distance, request))).response
        for request in (
            DistanceRequest(images=[found.base for found in comparisons], reference=list(styled)),
            DistanceRequest(images=[found.tuned for found in comparisons], reference=list(styled)),
        )
    ]
    return StyleAlignment(
        job=job, reward=base.reward, style_images=len(styled), base=base.distance, tuned=tuned.distance
    )


def judge(comparisons: Sequence[Comparison]) -> dict[str, Judgement]:
    """What every scorer says of the comparisons."""
    return {name: _judge(comparisons, name) for name in comparisons[0].base_scores}


def _judge(comparisons: Sequence[Comparison], name: str) -> Judgement:
    by_prompt: dict[str, list[tuple[float, float]]] = {}
    for found in comparisons:
        scores = (found.base_scores[name], found.tuned_scores[name])
        by_prompt.setdefault(found.prompt, []).append(scores)
    groups = list(by_prompt.values())
    differences = [fmean(tuned - base for base, tuned in group) for group in groups]
    wins = [fmean((tuned > base) + 0.5 * (tuned == base) for base, tuned in group) for group in groups]
    return Judgement(
        base_mean=fmean(found.base_scores[name] for found in comparisons),
        tuned_mean=fmean(found.tuned_scores[name] for found in comparisons),
        difference=bootstrap(differences),
        win_rate=bootstrap(wins),
    )


def bootstrap(values: Sequence[float], seed: int = 0) -> Interval:
    """The mean and its 95% percentile interval over RESAMPLES resamples."""
    rng = random.Random(seed)
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    cut = RESAMPLES // 40
    return Interval(value=fmean(values), low=means[cut], high=means[-cut - 1])


async def _compare(
    client: AsyncRetouche, run_id: RunId, prompt: str, seed: int, truth: Truth | None
) -> Comparison:
    drawn = [await _draw(client, prompt, seed, adapter) for adapter in (None, run_id)]
    request = RewardRequest(prompt=prompt, images=list(drawn))
    answer = (await _patiently(lambda: client.stages.reward(request))).response
    scores = [{name: score.raw for name, score in found.items()} for found in answer.scores]
    if truth is not None:
        for image, found in zip(drawn, scores, strict=True):
            encoded = await client.image(image)
            try:
                found[TRUTH] = truth(encoded, prompt)
            except ValueError as error:
                raise BadPrompts(f"--truth cannot judge {prompt!r}: {error}") from error
    return Comparison(
        prompt=prompt, seed=seed, base=drawn[0], tuned=drawn[1], base_scores=scores[0], tuned_scores=scores[1]
    )


async def _draw(client: AsyncRetouche, prompt: str, seed: int, adapter: RunId | None) -> ImageRef:
    request = GenerateRequest(prompt=prompt, seed=seed, adapter=adapter)
    return (await _patiently(lambda: client.stages.generate(request))).response.image


async def _patiently(call: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """The call's answer, asked again as long as the error says that this may help."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return await call()
        except RetoucheError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(error.retry_after_seconds or 1.0)
    return await call()
