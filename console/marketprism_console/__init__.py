"""A console in the browser: what is stored, whether it is whole, and how the pipeline is. It reads, and changes nothing.

Each page is a folder: `queries.py` asks the servers, what stands beside it makes charts of the answers and is pure, `page.py` shows them.
"""
