from tests.pipelines import servers

__all__ = ["servers"]
