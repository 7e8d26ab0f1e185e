"""What touches an instrument: buses, framing and decoding as pure functions, device models, simulators."""
