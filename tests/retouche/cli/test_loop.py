"""`retouche loop` started again goes on, also while the services are still loading."""

import threading

import pytest
from fastapi import FastAPI

from retouche.cli.loop import deployed
from retouche.client import Retouche
from retouche.errors import Unavailable


def test_a_loop_waits_until_the_models_are_known_by_which_its_jobs_are_named(
    served_url: str, services: FastAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = services.state.readiness
    services.state.readiness = Unavailable("the models are still loading")
    with Retouche(served_url) as client:
        assert client.deployed_models() is None
        loaded = threading.Timer(2, setattr, (services.state, "readiness", ready))
        loaded.start()
        found = deployed(client)
        loaded.join()
        assert found == client.deployed_models()
    assert "waiting for generation, critique, instruction, editing, reward" in capsys.readouterr().err
