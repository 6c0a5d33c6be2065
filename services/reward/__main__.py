"""`python -m services.reward`."""

import uvicorn

from services.reward.app import create_app
from services.reward.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.reward_port, log_level="warning")
