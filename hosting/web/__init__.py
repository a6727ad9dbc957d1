"""The web role: HTTP for DAV and for what mail programs look up, ASGI under uvicorn."""
