"""The gRPC methods of access, billing and events: message -> operation -> message."""
