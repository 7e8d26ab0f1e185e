"""What benchmarks of the whole product stand on: real servers, an agent, an instrument that delivers arrays."""
