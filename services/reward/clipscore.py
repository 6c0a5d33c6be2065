"""CLIPScore (arXiv 2104.08718): how near a picture is to its prompt for a CLIP that nobody tuned.

Any CLIPModel folder with tokenizer and image processor; openai/clip-vit-large-patch14 is what most report.
"""

from retouche.profile import RewardChoice
from services.reward import clip
from services.reward.reward_model import RewardModel


def load(choice: RewardChoice) -> RewardModel:
    """Raw: the cosine. Published: 100 max(cosine, 0), as text-to-image papers print it.

    The paper itself, which is about captions, prints 2.5 max(cosine, 0).
    """
    model = clip.load_model(choice.model, choice.revision, choice.dtype)
    return clip.cosine_reward(
        choice,
        clip.load_prompts(choice, model),
        clip.load_processor(choice),
        published=lambda raw_B: 100 * raw_B.clamp(min=0),
    )
