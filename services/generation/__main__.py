"""`python -m services.generation`."""

from services.generation.app import create_app
from services.generation.settings import Settings
from serving.process import serve

if __name__ == "__main__":
    settings = Settings()
    serve(create_app(settings), host=settings.host, port=settings.generation_port)
