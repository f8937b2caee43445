"""What did the market do? Candles, books, funding, open interest and liquidations, from seconds to years."""
