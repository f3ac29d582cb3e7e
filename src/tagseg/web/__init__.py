"""What the servers share: who may ask, and how they listen."""
