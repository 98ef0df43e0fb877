"""What every daemon shares: options, the server that runs an app, background tasks, the state directory."""
