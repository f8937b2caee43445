"""The demo: a feed and a consumer on embedded servers, a kill -9 in the middle, and the proof at the end."""
