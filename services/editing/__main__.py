"""`python -m services.editing`."""

from services.editing.app import create_app
from services.editing.settings import Settings
from serving.process import serve

if __name__ == "__main__":
    settings = Settings()
    serve(create_app(settings), host=settings.host, port=settings.editing_port)
