"""How does the pipeline run? Stream → lane → hot → cold, live."""
