"""Typed clients: `Retouche` and `AsyncRetouche` of the gateway, `StageClient` of the stage services."""

from retouche.client.gateway import AsyncRetouche
from retouche.client.stages import StageClient
from retouche.client.synchronous import Retouche

__all__ = ["AsyncRetouche", "Retouche", "StageClient"]
