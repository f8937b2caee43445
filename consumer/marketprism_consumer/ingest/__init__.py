"""The path of a row, from a message to a block, and the ports to what it needs: `broker` and `store`. Knows no server."""
