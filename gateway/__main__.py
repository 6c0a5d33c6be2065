"""`python -m gateway`."""

import uvicorn

from gateway.app import create_app
from gateway.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.gateway_port, log_level="warning")
