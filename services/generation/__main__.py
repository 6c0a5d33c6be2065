"""`python -m services.generation`."""

import uvicorn

from services.generation.app import create_app
from services.generation.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.generation_port, log_level="warning")
