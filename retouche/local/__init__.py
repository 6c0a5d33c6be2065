"""The whole system on one machine: what `retouche up` starts, watches and stops."""
