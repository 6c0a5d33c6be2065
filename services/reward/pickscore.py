"""PickScore (arXiv 2305.01569): CLIP ViT-H/14 tuned to prefer what the users of Pick-a-Pic preferred.

yuvalkirstain/PickScore_v1 holds a CLIPModel in safetensors; its base, laion/CLIP-ViT-H-14-laion2B-s32B-b79K,
has the tokenizer and the image processor.
"""

from retouche.profile import RewardChoice
from services.reward import clip
from services.reward.reward_model import RewardModel


def load(choice: RewardChoice) -> RewardModel:
    """Raw: the cosine, about 0.21. Published: times the temperature, about 21."""
    model = clip.load_model(choice.model, choice.revision, choice.dtype)
    temperature = model.logit_scale.exp().detach()
    return clip.cosine_reward(
        choice,
        clip.load_prompts(choice, model),
        clip.load_processor(choice),
        published=lambda raw_B: raw_B * temperature,
    )
