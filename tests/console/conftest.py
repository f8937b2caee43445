from tests.pipelines import pipeline, servers

__all__ = ["pipeline", "servers"]
