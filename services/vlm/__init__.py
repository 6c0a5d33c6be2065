"""Vision-language models for critique and instruction: behind OpenAI's API, or in this process."""
