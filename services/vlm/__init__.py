"""Vision-language models for critique and instruction: behind OpenAI's API, or in a process of their own."""
