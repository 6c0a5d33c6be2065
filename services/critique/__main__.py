"""`python -m services.critique`."""

import uvicorn

from services.critique.app import create_app
from services.critique.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.critique_port, log_level="warning")
