"""`python -m services.critique`."""

from services.critique.app import create_app
from services.critique.settings import Settings
from serving.process import serve

if __name__ == "__main__":
    settings = Settings()
    serve(create_app(settings), host=settings.host, port=settings.critique_port)
