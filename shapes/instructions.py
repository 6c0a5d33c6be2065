"""What a critic says of a picture, and the edits that follow, in the fixed words that the small models learn.

Objects are named as the picture shows them: "the blue circle" where there is one object, "the left blue
circle" (right, top, bottom) where there are two.
"""

from retouche.contract.stages import Critique, EditInstruction, Finding
from shapes.check import Fault, Observation, Report
from shapes.prompts import prompts_of
from shapes.scene import Item, Scene

_PLACES = {"horizontal": ("left", "right"), "vertical": ("top", "bottom")}
_FORWARD = {"horizontal": "left of", "vertical": "above"}
_BACKWARD = {"horizontal": "right of", "vertical": "below"}
_NUMBERS = ("no object", "one object", "two objects")


def critique_for(report: Report, scene: Scene) -> Critique:
    """The critique of a picture of which the checker says `report` under a prompt that means `scene`."""
    description = f"{describe(report.observation)}. {compare(report, scene)}"
    return Critique(description=description, findings=findings_for(report, scene))


def describe(observation: Observation) -> str:
    """What a picture shows, in the words of the prompt grammar as far as they go."""
    if observation.scene is not None:
        return prompts_of(observation.scene)[0]
    shown = "several objects" if observation.items else "nothing"
    return f"{shown} on a {observation.background} background"


def compare(report: Report, scene: Scene) -> str:
    """The prompt beside the picture, point by point: what was asked, what is shown, and whether they agree.

    A small model that wrote only the findings would have to decide all of them at one token.
    """
    order, observation = _shown_order(report, scene), report.observation
    parts = [("Count", [(_number(str(len(scene.items))), _number(str(len(observation.items))))])]
    if len(observation.items) == len(scene.items):
        shown = [_item(observation, index) for index in order]
        for name, want, see in zip(("First", "Second"), scene.items, shown, strict=False):
            parts.append((name, [(want.color, see.color), (want.shape, see.shape)]))
    if scene.axis is not None and observation.axis is not None:
        arranged = (_FORWARD if order == [0, 1] else _BACKWARD)[observation.axis]
        parts.append(("Arrangement", [(_FORWARD[scene.axis], arranged)]))
    parts.append(("Background", [(scene.background, observation.background)]))
    return " ".join(f"{name}: {', '.join(_agree(*point) for point in points)}." for name, points in parts)


def _agree(asked: str, shown: str) -> str:
    return f"asked {asked}, shows {shown}: {'yes' if asked == shown else 'no'}"


def findings_for(report: Report, scene: Scene) -> tuple[Finding, ...]:
    """One finding for every fault, in the faults' order."""
    order = _shown_order(report, scene)
    return tuple(_finding(fault, report.observation, order) for fault in report.faults)


def instructions_for(report: Report, scene: Scene) -> list[EditInstruction]:
    """The edits that put every fault right, in the faults' order; one for each object that is missing."""
    order = _shown_order(report, scene)
    edits = [_edits(fault, report.observation, scene, order) for fault in report.faults]
    return [edit for part in edits for edit in part]


def _finding(fault: Fault, observation: Observation, order: list[int]) -> Finding:
    if fault.aspect == "background":
        problem = f"is {fault.seen}, not {fault.wanted}"
        return Finding(aspect="background", subject="the background", problem=problem)
    if fault.aspect == "count":
        problem = f"shows {_number(fault.seen)}, not {_number(fault.wanted)}"
        return Finding(aspect="count", subject="the picture", problem=problem)
    if fault.aspect == "relation":
        first, second = (_item(observation, index) for index in order)
        shown = (_FORWARD if order == [0, 1] else _BACKWARD)[fault.seen]
        problem = f"is {shown} the {second}, not {_FORWARD[fault.wanted]} it"
        return Finding(aspect="relation", subject=f"the {first}", problem=problem)
    subject = _reference(observation, order[fault.position or 0])
    article = "" if fault.aspect == "color" else "a "
    problem = f"is {article}{fault.seen}, not {article}{fault.wanted}"
    return Finding(aspect=fault.aspect, subject=subject, problem=problem)


def _edits(fault: Fault, observation: Observation, scene: Scene, order: list[int]) -> list[EditInstruction]:
    if fault.aspect == "background":
        text = f"make the background {fault.wanted}"
        return [EditInstruction(action="background", target="the background", text=text)]
    if fault.aspect == "count":
        return _count_edits(observation, scene)
    if fault.aspect == "relation":
        first, second = (f"the {_item(observation, index)}" for index in order)
        text = f"put {first} {_FORWARD[fault.wanted]} {second}"
        return [EditInstruction(action="move", target=first, text=text)]
    target = _reference(observation, order[fault.position or 0])
    if fault.aspect == "color":
        return [EditInstruction(action="recolor", target=target, text=f"make {target} {fault.wanted}")]
    return [EditInstruction(action="reshape", target=target, text=f"turn {target} into a {fault.wanted}")]


def _count_edits(observation: Observation, scene: Scene) -> list[EditInstruction]:
    if len(observation.items) > len(scene.items):
        target = "the extra object"
        return [EditInstruction(action="remove", target=target, text=f"remove {target}")]
    names = [f"{'an' if item.color[0] in 'aeiou' else 'a'} {item}" for item in _missing(observation, scene)]
    return [EditInstruction(action="add", target=name, text=f"add {name}") for name in names]


def _missing(observation: Observation, scene: Scene) -> list[Item]:
    """The wanted items left when each item shown has taken the one it is most like."""
    missing = list(scene.items)
    for seen in observation.items:
        likeness = [(want.color == seen.item.color) + (want.shape == seen.item.shape) for want in missing]
        missing.pop(likeness.index(max(likeness)))
    return missing


def _shown_order(report: Report, scene: Scene) -> list[int]:
    """For every wanted item, which of the shown ones the report's faults take it to be.

    Usually the same one along the axis; the other way round where the faults say that two changed places.
    """
    straight = list(range(len(scene.items)))
    if not any(fault.aspect == "relation" for fault in report.faults):
        return straight
    seen = {(fault.aspect, fault.position): fault.seen for fault in report.faults}
    shown = [found.item for found in report.observation.ordered]
    agrees = all(
        seen.get(("color", position), want.color) == see.color
        and seen.get(("shape", position), want.shape) == see.shape
        for position, (want, see) in enumerate(zip(scene.items, shown, strict=True))
    )
    return straight if agrees else straight[::-1]


def _reference(observation: Observation, index: int) -> str:
    item = _item(observation, index)
    return f"the {_PLACES[observation.axis][index]} {item}" if observation.axis else f"the {item}"


def _item(observation: Observation, index: int) -> Item:
    return observation.ordered[index].item


def _number(count: str) -> str:
    return _NUMBERS[int(count)] if int(count) < len(_NUMBERS) else "several objects"
