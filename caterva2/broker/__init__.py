"""cat2bro: brings the message bus, and knows which roots are published, and where."""
