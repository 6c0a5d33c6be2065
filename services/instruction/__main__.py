"""`python -m services.instruction`."""

from services.instruction.app import create_app
from services.instruction.settings import Settings
from serving.process import serve

if __name__ == "__main__":
    settings = Settings()
    serve(create_app(settings), host=settings.host, port=settings.instruction_port)
