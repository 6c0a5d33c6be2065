"""`python -m gateway`."""

from gateway.app import create_app
from gateway.settings import Settings
from serving.process import serve

if __name__ == "__main__":
    settings = Settings()
    serve(create_app(settings), host=settings.host, port=settings.gateway_port)
