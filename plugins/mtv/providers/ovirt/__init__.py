"""oVirt and RHV: the engine's REST API through oVirt's own SDK."""
