"""MarketPrism storage: the resources as pydantic models and the closed registry of reasons."""
