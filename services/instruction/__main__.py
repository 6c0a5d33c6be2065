"""`python -m services.instruction`."""

import uvicorn

from services.instruction.app import create_app
from services.instruction.settings import Settings

if __name__ == "__main__":
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.instruction_port, log_level="warning")
