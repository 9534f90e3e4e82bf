"""Files to frames and samples, and back: probe, decode, encode, audio, mux."""
