"""The wire contract: every request and response, once. Services, gateway, worker and clients import these."""
