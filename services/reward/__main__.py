"""`python -m services.reward`."""

from services.reward.app import create_app
from services.reward.settings import Settings
from serving.process import serve

if __name__ == "__main__":
    settings = Settings()
    serve(create_app(settings), host=settings.host, port=settings.reward_port)
