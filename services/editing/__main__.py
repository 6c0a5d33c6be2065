"""`python -m services.editing`."""

import uvicorn

from services.editing.app import create_app
from services.editing.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.editing_port, log_level="warning")
