"""The engine's running part: who drives a run, where tasks execute, what is recorded."""
