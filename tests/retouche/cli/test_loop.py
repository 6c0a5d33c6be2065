"""`retouche loop` started again goes on, also while the services are still loading."""

import threading

import pytest
from fastapi import FastAPI

from retouche.cli.loop import pinned
from retouche.client import Retouche
from retouche.contract.jobs import CurationSpec
from retouche.errors import Unavailable

SPEC = CurationSpec(prompts=("a fox",))


def test_a_loop_waits_until_the_models_are_known_by_which_its_jobs_are_named(
    served_url: str, services: FastAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = services.state.readiness
    services.state.readiness = Unavailable("the models are still loading")
    with Retouche(served_url) as client:
        assert client.pinned(SPEC) is None
        loaded = threading.Timer(2, setattr, (services.state, "readiness", ready))
        loaded.start()
        found = pinned(client, SPEC)
        loaded.join()
        assert found == client.pinned(SPEC)
    assert "waiting for generation, critique, instruction, editing, reward" in capsys.readouterr().err
